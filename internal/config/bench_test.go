package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// large has 1000 clusters of 10 endpoints and 1000 routes of 10 hosts.
func large() string {
	var b strings.Builder
	b.WriteString("[listener.web]\naddress = \":8080\"\n")
	for i := range 1000 {
		b.WriteString("[[listener.web.route]]\nhosts = [")
		for j := range 10 {
			fmt.Fprintf(&b, "%q, ", fmt.Sprintf("h%d.c%d.example.com", j, i))
		}
		fmt.Fprintf(&b, "]\npath_prefix = \"/\"\ncluster = \"c%d\"\n", i)
	}
	for i := range 1000 {
		fmt.Fprintf(&b, "[cluster.c%d]\nbalance = \"least_request\"\nendpoints = [\n", i)
		for j := range 10 {
			fmt.Fprintf(&b, "  { id = \"e%d\", address = \"10.%d.%d.%d:8080\" },\n", j, i/256, i%256, j)
		}
		b.WriteString("]\n")
	}
	return b.String()
}

// The whole daemon has 300 ms from start to ready with this.
func BenchmarkParseLarge(b *testing.B) {
	data := []byte(large())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("large.toml", data); err != nil {
			b.Fatal(err)
		}
	}
}

// What a single problem costs.
func BenchmarkScanLarge(b *testing.B) {
	data := large()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		scan(data)
	}
}

// A problem in every endpoint needs the scan, 10 000 paths and a sort.
func BenchmarkParseLargeAllWrong(b *testing.B) {
	data := []byte(strings.ReplaceAll(large(), ":8080\" }", ":808080\" }"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("large.toml", data); err == nil {
			b.Fatal("no problem found")
		}
	}
}

// The limit is far above what it takes (a tenth of it), so that it fails for a
// quadratic step and not for a busy machine.
func TestParseLargeIsQuick(t *testing.T) {
	data := []byte(large())
	start := time.Now()
	c, err := Parse("large.toml", data)
	if err != nil {
		t.Fatal(err)
	}
	d := time.Since(start)
	t.Logf("%d KiB in %v", len(data)>>10, d)
	if d > 2*time.Second {
		t.Error("too slow")
	}
	if len(c.Clusters) != 1000 || len(c.Listeners[0].Routes) != 1000 {
		t.Errorf("%d clusters, %d routes", len(c.Clusters), len(c.Listeners[0].Routes))
	}
}
