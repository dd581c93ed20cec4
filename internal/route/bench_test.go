package route

import (
	"fmt"
	"testing"

	"belay/internal/config"
)

func benchmarkMatch(b *testing.B, x *Table, in *Input, want int) {
	if got := index(x, in); got != want {
		b.Fatalf("route %d, want %d", got, want)
	}
	b.ReportAllocs()
	for b.Loop() {
		x.Match(in)
	}
}

func BenchmarkMatchHosts(b *testing.B) {
	for _, n := range []int{1, 10, 10_000} {
		x, in := manyHosts(b, n)
		b.Run(fmt.Sprintf("exact/%d", n), func(b *testing.B) { benchmarkMatch(b, x, in, n/2) })
		if n >= 10 {
			in := get("a.b.c.host-00004.example.com", "/")
			b.Run(fmt.Sprintf("suffix/%d", n), func(b *testing.B) { benchmarkMatch(b, x, in, 4) })
		}
	}
}

// The worst host a client can think of: all labels, none known.
func BenchmarkMatchManyLabels(b *testing.B) {
	x, in := manyHosts(b, 10_000)
	in.Host = nil
	for range maxHost / 2 {
		in.Host = append(in.Host, "a."...)
	}
	benchmarkMatch(b, x, in, -1)
}

// The last of n routes of one host.
func BenchmarkMatchPaths(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		for _, kind := range []string{"exact", "prefix"} {
			var rs []*config.Route
			var last string
			for i := range n {
				last = fmt.Sprintf("/section/page-%05d.html", i)
				r := &config.Route{Path: last}
				if kind == "prefix" {
					r = &config.Route{PathPrefix: last}
				}
				rs = append(rs, r)
			}
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) { benchmarkMatch(b, compile(b, rs...), get("h", last), n-1) })
		}
	}
}

func BenchmarkCompile10kHosts(b *testing.B) {
	var rs []*config.Route
	for i := range 10_000 {
		rs = append(rs, &config.Route{Hosts: []string{fmt.Sprintf("host-%05d.example.com", i)}, PathPrefix: "/"})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(rs); err != nil {
			b.Fatal(err)
		}
	}
}
