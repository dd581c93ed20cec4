package adminapi

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTableEntries(t *testing.T) {
	const line = `{"key":"k","cluster":"app","endpoint":"a","age_seconds":7,"idle_seconds":1}` + "\n"
	for _, tt := range []struct {
		name, reply, want string
		status, entries   int
	}{
		{"OK", line + line + "{}\n", "", 200, 2},
		{"OK none", "{}\n", "", 200, 0},
		{"cut between lines", line, "belayd stopped meanwhile", 200, 1},
		{"cut in a line", line + line[:20], "belayd stopped meanwhile", 200, 1},
		{"something else", "<html>", "does not speak belay's admin API", 200, 0},
		{"refused", "there is no table\nand more", "there is no table", 404, 0},
	} {
		c := NewClient(listen(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			io.WriteString(w, tt.reply)
		}))
		n := 0
		err := c.TableEntries(t.Context(), TableQuery{Name: "t"}, func(e TableEntry) error {
			if n++; e.Key != "k" || e.AgeSecond != 7 {
				t.Errorf("%s: %+v", tt.name, e)
			}
			return nil
		})
		c.Close()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || n != tt.entries {
			t.Errorf("%s: %d entries, %v", tt.name, n, err)
		}
	}
}

func TestTableEntriesEndAtAnError(t *testing.T) {
	c := NewClient(listen(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			io.WriteString(w, `{"key":"k"}`+"\n")
		}
	}))
	t.Cleanup(c.Close)
	enough := errors.New("enough")
	n := 0
	err := c.TableEntries(t.Context(), TableQuery{Name: "t"}, func(TableEntry) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestSessionQueries(t *testing.T) {
	asked := make(chan string, 1)
	c := NewClient(listen(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path + " " + r.URL.Query().Encode()
		io.WriteString(w, "{}\n")
	}))
	t.Cleanup(c.Close)
	all := TableQuery{Name: "t", Key: `a\x20&b`, Cluster: "c", Endpoint: "e/1", IdleOver: time.Minute, IdleUnder: time.Hour, Limit: 5, All: true}
	const chosen = `all=true&cluster=c&endpoint=e%2F1&idle_over=1m0s&idle_under=1h0m0s&key=a%5Cx20%26b&limit=5&name=t`
	for want, ask := range map[string]func() error{
		"GET /table " + chosen:    func() error { return c.TableEntries(t.Context(), all, nil) },
		"DELETE /table " + chosen: func() error { _, err := c.ClearTable(t.Context(), all); return err },
		"POST /table cluster=c&endpoint=e&key=k&name=t": func() error {
			_, err := c.SetTable(t.Context(), "t", "k", "c", "e")
			return err
		},
		"GET /endpoint cluster=c&id=e": func() error { _, err := c.Endpoint(t.Context(), "c", "e"); return err },
		"POST /endpoint cluster=c&deadline=10m0s&id=e&wish=drain": func() error {
			_, err := c.ChangeEndpoint(t.Context(), EndpointChange{Cluster: "c", ID: "e", Wish: "drain", Deadline: 10 * time.Minute})
			return err
		},
		"POST /endpoint cluster=c&id=e&wish=enable": func() error {
			_, err := c.ChangeEndpoint(t.Context(), EndpointChange{Cluster: "c", ID: "e", Wish: "enable"})
			return err
		},
	} {
		if err := ask(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := <-asked; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
}

func TestEndpointUp(t *testing.T) {
	for state, want := range map[string]bool{
		StateUp: true, StateDegraded: true, StateDraining: false, StateUnhealthy: false, StateDisabled: false, StateUnresolved: false,
	} {
		if e := (Endpoint{State: state, Weight: 1}); e.Up() != want {
			t.Errorf("%s: %v", state, e.Up())
		}
		if e := (Endpoint{State: state}); e.Up() {
			t.Errorf("%s without a weight is up", state)
		}
	}
}
