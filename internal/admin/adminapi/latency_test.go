package adminapi

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

func TestLatencyQuantile(t *testing.T) {
	for _, tt := range []struct {
		name    string
		buckets []Bucket
		q, want float64
	}{
		{"none", nil, 0.5, 0},
		{"half of one bucket", []Bucket{{1, 2, 10}}, 0.5, 1.5},
		{"end of one bucket", []Bucket{{1, 2, 10}}, 1, 2},
		{"border of two", []Bucket{{1, 2, 5}, {4, 8, 5}}, 0.5, 2},
		{"in the second", []Bucket{{1, 2, 5}, {4, 8, 5}}, 0.75, 6},
		{"beyond the last bound", []Bucket{{1, 2, 1}, {120, 0, 9}}, 0.99, 120},
		{"least", []Bucket{{0, 1, 4}}, 0, 0},
	} {
		l := NewLatency(0, tt.buckets)
		if got := l.Quantile(tt.q); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestLatencySince(t *testing.T) {
	old := NewLatency(3, []Bucket{{1, 2, 2}, {4, 8, 1}})
	for _, tt := range []struct {
		name string
		now  Latency
		want Latency
	}{
		{"nothing new", old, NewLatency(0, []Bucket{})},
		{"same bucket", NewLatency(9, []Bucket{{1, 2, 2}, {4, 8, 2}}), NewLatency(6, []Bucket{{4, 8, 1}})},
		{"new bucket between", NewLatency(6, []Bucket{{1, 2, 2}, {2, 4, 3}, {4, 8, 1}}), NewLatency(3, []Bucket{{2, 4, 3}})},
		{"counts fewer: restarted", NewLatency(1, []Bucket{{1, 2, 1}}), NewLatency(1, []Bucket{{1, 2, 1}})},
		{"a bucket has fewer: restarted", NewLatency(9, []Bucket{{1, 2, 9}}), NewLatency(9, []Bucket{{1, 2, 9}})},
	} {
		if got := tt.now.Since(old); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestLatencySinceLeavesBoth(t *testing.T) {
	old := NewLatency(1, []Bucket{{1, 2, 1}})
	now := NewLatency(2, []Bucket{{1, 2, 3}})
	now.Since(old)
	if old.Buckets[0].Count != 1 || now.Buckets[0].Count != 3 {
		t.Errorf("changed: %v %v", old, now)
	}
}

func TestBucketJSON(t *testing.T) {
	want := []Bucket{{0, 5e-5, 3}, {120, 0, math.MaxUint64}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(data); s != "[[0,0.00005,3],[120,0,18446744073709551615]]" {
		t.Error(s)
	}
	var got []Bucket
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{`[[1,2]]`, `[[1,2,3,4]]`, `[[1,2,-3]]`, `[{}]`, `[["1",2,3]]`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
}

func TestClusterSum(t *testing.T) {
	c := Cluster{
		Available: 9, Latency: NewLatency(1, []Bucket{{1, 2, 1}}), // what was there does not count
		Endpoints: []Endpoint{
			{Weight: 1, State: StateUp, Active: 1, Pending: 2, Open: 3, Idle: 4, Errors: 5, Replies: Replies{1, 2, 3, 4, 5, 6}, Latency: NewLatency(3, []Bucket{{1, 2, 2}})},
			{State: "unresolved", Active: 10, Pending: 20, Open: 30, Idle: 40, Errors: 50, Replies: Replies{10, 20, 30, 40, 50, 60}, Latency: NewLatency(6, []Bucket{{1, 2, 2}, {2, 4, 1}})},
		},
	}
	want := Cluster{
		Available: 1, Active: 11, Pending: 22, Open: 33, Idle: 44, Errors: 55, Replies: Replies{11, 22, 33, 44, 55, 66},
		Latency: NewLatency(9, []Bucket{{1, 2, 4}, {2, 4, 1}}), Endpoints: c.Endpoints,
	}
	c.Sum()
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v\nwant %+v", c, want)
	}
}
