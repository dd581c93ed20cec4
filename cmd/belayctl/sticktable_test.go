package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"belay/internal/admin/adminapi"
)

func someTables() []adminapi.Table {
	return []adminapi.Table{
		{Name: "sessions", Clusters: []string{"app", "b", "c", "d"}, Entries: 12345, Size: 100000, Expire: 1800, Inserted: 50000, Evicted: 7, Expired: 37648, Hits: 1234567, Misses: 50001, Store: "redis.internal:6379"},
		{Name: "sources", Clusters: []string{}, Size: 10},
	}
}

func someEntries() []adminapi.TableEntry {
	return []adminapi.TableEntry{
		{Key: "192.0.2.7", Cluster: "app", Endpoint: "a", AgeSecond: 4000, Idle: 12},
		{Key: `a\x20key`, Cluster: "app", Endpoint: "b", AgeSecond: 5},
		{Key: "2001:db8::/64", Unknown: "00000000000000aa/3", AgeSecond: 90, Idle: 90},
	}
}

// table answers for a table; nil: it has.
func (d *daemon) table(w http.ResponseWriter, r *http.Request) any {
	switch r.Method {
	case http.MethodDelete:
		n, _ := strconv.Atoi(r.FormValue("key"))
		return adminapi.Cleared{Cleared: n}
	case http.MethodPost:
		return adminapi.TableEntry{Key: r.FormValue("key"), Cluster: r.FormValue("cluster"), Endpoint: r.FormValue("endpoint")}
	}
	d.query = r.URL.RawQuery
	if r.FormValue("name") == "nix" {
		http.Error(w, `there is no table "nix"`, http.StatusNotFound)
		return nil
	}
	e := json.NewEncoder(w)
	for i := range d.entries {
		if limit, _ := strconv.Atoi(r.FormValue("limit")); limit > 0 && i == limit {
			break
		}
		e.Encode(d.entries[i])
	}
	if r.FormValue("name") != "cut" {
		io.WriteString(w, "{}\n")
	}
	return nil
}

func TestTableOutput(t *testing.T) {
	for name, args := range map[string]string{
		"table-list":      "table list",
		"table-show":      "table show sessions",
		"table-show-json": "table show sessions --json",
		"table-set":       "table set sources 192.0.2.7 app/10.0.0.1:80/x",
		"table-clear":     "table clear sessions --all",
		"table-clear-one": "table clear sessions --key 1",
	} {
		status, stdout, stderr := belayctl(t, aDaemon().serve(t), strings.Fields(args)...)
		if status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", name, status, stderr)
		}
		golden(t, name, stdout)
	}
}

func TestTableAsks(t *testing.T) {
	for args, want := range map[string]string{
		`table show s`: "name=s",
		`table show s --key a\x20b --endpoint app/a/1 --idle-over 10m --idle-under 1h`: `cluster=app&endpoint=a%2F1&idle_over=10m0s&idle_under=1h0m0s&key=a%5Cx20b&name=s`,
		`table show s --limit 2`:                       "limit=3&name=s",
		`table set s k app/a`:                          "POST /table cluster=app&endpoint=a&key=k&name=s",
		`table clear s --all`:                          "DELETE /table all=true&name=s",
		`table clear s --endpoint app/a`:               "DELETE /table cluster=app&endpoint=a&name=s",
		`table clear s --key 192.0.2.7`:                "DELETE /table key=192.0.2.7&name=s",
		`table clear s --idle-over 1s --idle-under 2s`: "DELETE /table idle_over=1s&idle_under=2s&name=s",
	} {
		d := aDaemon()
		if status, _, stderr := belayctl(t, d.serve(t), strings.Fields(args)...); status != exitOK || strings.Contains(args, "clear") && stderr != "" {
			t.Errorf("%s: status %d, stderr %q", args, status, stderr)
		}
		if got := d.query + strings.Join(d.changes, ", "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestTableErrors(t *testing.T) {
	socket := aDaemon().serve(t)
	const (
		hint  = "\nbelayctl: \"belayctl --help\" lists what there is\n"
		which = "belayctl: which entries? --key, --endpoint, --idle-over and --idle-under choose some, --all alone chooses all" + hint
	)
	for _, tt := range []struct {
		args   string
		status int
		stderr string
	}{
		{"table show nix", exitNo, "belayctl: there is no table \"nix\"\n"},
		{"table show", exitUsage, "belayctl: accepts 1 arg(s), received 0" + hint},
		{"table show s --endpoint a", exitUsage, "belayctl: \"a\" is not CLUSTER/ENDPOINT" + hint},
		{"table show s --idle-over 0s", exitUsage, "belayctl: --idle-over must be above 0" + hint},
		{"table show s --limit -1", exitUsage, "belayctl: --limit must be 0 or more" + hint},
		{"table show s --key=", exitUsage, "belayctl: --key must not be empty" + hint},
		{"table set s k app", exitUsage, "belayctl: \"app\" is not CLUSTER/ENDPOINT" + hint},
		{"table set s k /a", exitUsage, "belayctl: \"/a\" is not CLUSTER/ENDPOINT" + hint},
		{"table clear s", exitUsage, which},
		{"table clear s --all --key k", exitUsage, which},
		{"table clear s --idle-under -1s", exitUsage, "belayctl: --idle-under must be above 0" + hint},
	} {
		status, stdout, stderr := belayctl(t, socket, strings.Fields(tt.args)...)
		if status != tt.status || stdout != "" || stderr != tt.stderr {
			t.Errorf("%s: status %d, stdout %q, stderr %q\nwant status %d, stderr %q", tt.args, status, stdout, stderr, tt.status, tt.stderr)
		}
	}
	status, stdout, stderr := belayctl(t, socket, "table", "show", "cut")
	if status != exitNo || !strings.Contains(stdout, "192.0.2.7") || stderr != "belayctl: the reply ends before its end mark: belayd stopped meanwhile\n" {
		t.Errorf("cut: status %d, %q, %q", status, stdout, stderr)
	}
}

// TestTableOfMany: entries are printed as they come, under one heading.
func TestTableOfMany(t *testing.T) {
	d := aDaemon()
	d.entries = nil
	for i := range 2*sheetRows + 1 {
		d.entries = append(d.entries, adminapi.TableEntry{Key: fmt.Sprint(i), Cluster: "app", Endpoint: "a"})
	}
	socket := d.serve(t)
	_, stdout, stderr := belayctl(t, socket, "table", "show", "s")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if len(lines) != len(d.entries)+1 || strings.Count(stdout, "KEY") != 1 || stderr != "" || strings.Fields(lines[len(lines)-1])[0] != fmt.Sprint(2*sheetRows) {
		t.Errorf("%d lines, the last %q, stderr %q", len(lines), lines[len(lines)-1], stderr)
	}
	_, stdout, stderr = belayctl(t, socket, "table", "show", "s", "--limit", "2", "--json")
	if strings.Count(stdout, "\n") != 2 || stderr != "belayctl: there are more than 2 entries\n" {
		t.Errorf("limit: %q, stderr %q", stdout, stderr)
	}
	d.entries = d.entries[:2]
	if _, _, stderr = belayctl(t, socket, "table", "show", "s", "--limit", "2"); stderr != "" {
		t.Errorf("limit that is not reached: stderr %q", stderr)
	}
	d.entries = nil
	if _, stdout, _ = belayctl(t, socket, "table", "show", "s"); stdout != "KEY  ENDPOINT  AGE  IDLE\n" {
		t.Errorf("empty: %q", stdout)
	}
}

// TestTableThatHangs: a daemon that stops to answer in the middle is not waited for.
func TestTableThatHangs(t *testing.T) {
	end := make(chan struct{})
	socket := serveFunc(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"key":"k","cluster":"app","endpoint":"a"}`+"\n")
		w.(http.Flusher).Flush()
		<-end
	})
	status, stdout, stderr := belayctl(t, socket, "table", "show", "s", "--timeout", "50ms", "--json")
	close(end)
	if status != exitNo || !strings.HasPrefix(stdout, `{"key":"k"`) || stderr != "belayctl: belayd at "+socket+" does not answer\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}
