package config

import (
	"os"
	"strings"
	"testing"
)

// Whatever the document, Parse gives a Config or problems that say where.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"../../docs/reference.toml", "../../examples/quickstart.toml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, table := range [][]parseTest{parseTop, parseHotRestart, parseListener, parseRoute, parseAction, parseCluster, parseSyntax} {
		for _, tt := range table {
			f.Add([]byte(wrap(tt.table, tt.keys)))
		}
	}
	for _, tt := range parseSession {
		f.Add([]byte(sessionDoc + tt.doc))
	}
	for _, table := range [][]parseTest{parseServerTLS, parseListenerTLS, parseClient, parseChain, parseClusterTLS} {
		for _, tt := range table {
			f.Add([]byte(tlsDoc(tt.table, tt.keys)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.toml", data)
		if err == nil {
			if len(c.Listeners) == 0 {
				t.Error("a valid configuration without a listener")
			}
			return
		}
		ps, ok := err.(*Problems)
		if !ok || len(*ps) == 0 {
			t.Fatalf("error %#v", err)
		}
		last := strings.Count(string(data), "\n") + 1
		for _, p := range *ps {
			if p.Msg == "" || strings.Contains(p.String(), "\n") || p.Line < 0 || p.Line > last || p.Line == 0 && p.Path != "listener" {
				t.Errorf("problem %+v", p)
			}
		}
	})
}
