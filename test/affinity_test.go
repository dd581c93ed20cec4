package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"belay/test/harness"
)

// homes is where the requests of users u0 … go.
func (c *clinic) homes(n int) []string {
	c.t.Helper()
	k := harness.Dial(c.t, c.addr)
	list := make([]string, n)
	for i := range list {
		list[i] = k.Do("GET", "/", "h", fmt.Sprint("X-User: u", i)).Header.Get("X-Backend")
	}
	return list
}

// What is the same goes to the same endpoint, in whatever order they are listed, and
// only what was on an endpoint that goes moves, and returns with it.
func TestAffinity(t *testing.T) {
	t.Parallel()
	for _, balance := range []string{"ring_hash", "maglev"} {
		t.Run(balance, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, 4)
			c.cluster = fmt.Sprintf("balance = %q\nhash = { on = [{ header = \"X-User\" }] }\n", balance)
			c.open()
			const users = 200
			before := c.homes(users)
			if again := c.homes(users); strings.Join(again, "") != strings.Join(before, "") {
				t.Fatal("the same users went elsewhere")
			}
			twin := &clinic{t: t, addr: harness.Addr(t), cluster: c.cluster, extra: c.extra}
			for i := range c.patients {
				twin.patients = append(twin.patients, c.patients[len(c.patients)-1-i])
			}
			if other := twin.open().homes(users); strings.Join(other, "") != strings.Join(before, "") {
				t.Error("a second belay with the endpoints in another order does not agree")
			}
			c.do("endpoint", "disable", "back", "p2")
			for i, got := range c.homes(users) {
				if before[i] == "p2" && got == "p2" || before[i] != "p2" && got != before[i] {
					t.Errorf("u%d went from %s to %s when p2 was disabled", i, before[i], got)
				}
			}
			c.do("endpoint", "enable", "back", "p2")
			if after := c.homes(users); strings.Join(after, "") != strings.Join(before, "") {
				t.Error("not as it was when p2 is back")
			}
		})
	}
}

// The parts that are hashed: in order, to the first terminal one; a cookie is made
// for whom has none.
func TestAffinityParts(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = "balance = \"maglev\"\nhash = { on = [{ header = \"X-Tenant\", terminal = true }, { query = \"user\", terminal = true }, { cookie = \"aff\", ttl = \"1h\" }] }\n"
	c.open()
	ask := func(path string, headers ...string) *harness.Reply {
		t.Helper()
		return harness.Get(t, c.addr, path, "h", headers...)
	}
	for i := range 8 {
		tenant, user := fmt.Sprint("X-Tenant: t", i), fmt.Sprint("?user=", i)
		home := ask("/", tenant)
		if ask("/x"+user, tenant).Header.Get("X-Backend") != home.Header.Get("X-Backend") || len(home.Header.Values("Set-Cookie")) > 0 {
			t.Errorf("tenant %d: the query counts, or a cookie came", i)
		}
		if a, b := ask("/a"+user), ask("/b"+user+"&x=1"); a.Header.Get("X-Backend") != b.Header.Get("X-Backend") {
			t.Errorf("user %d: %s and %s", i, a.Header.Get("X-Backend"), b.Header.Get("X-Backend"))
		}
	}
	seen := map[string]bool{}
	for range 12 {
		b := &harness.Browser{Addr: c.addr}
		first := b.MustGet(t, "/")
		cookies := first.Cookies("aff")
		if len(cookies) != 1 || !strings.Contains(cookies[0], "Max-Age=3600") {
			t.Fatalf("cookies %q", cookies)
		}
		for range 4 {
			if a := b.MustGet(t, "/"); a.Backend() != first.Backend() || len(a.Cookies("aff")) > 0 {
				t.Errorf("with its cookie: %s, %q; began on %s", a.Backend(), a.Cookies("aff"), first.Backend())
			}
		}
		seen[first.Backend()] = true
	}
	if len(seen) < 2 {
		t.Errorf("all browsers are on %v", seen)
	}
}

// With max_load the requests of one key spread when they are many at a time.
func TestAffinityBoundedLoad(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 4)
	c.cluster = "balance = \"ring_hash\"\nhash = { on = [{ header = \"X-User\" }], max_load = 1.25 }\n"
	c.open()
	home := harness.Get(t, c.addr, "/", "h", "X-User: one").Header.Get("X-Backend")
	const many = 20
	var wg sync.WaitGroup
	for range many {
		k := harness.Dial(t, c.addr)
		wg.Go(func() { k.Send(harness.Request("GET", "/held", "h", "X-User: one")) })
	}
	wg.Wait()
	held := func() (n, most int64) {
		for _, p := range c.patients {
			n, most = n+p.held.Load(), max(most, p.held.Load())
		}
		return n, most
	}
	harness.Eventually(t, patience, "all to be under way", func() bool { n, _ := held(); return n == many })
	if _, most := held(); most > 12 { // each of two workers: at most ceil(1.25 * 11 / 4) and a part more
		t.Errorf("one endpoint has %d of %d", most, many)
	}
	for _, p := range c.patients {
		close(p.gate)
	}
	harness.Eventually(t, patience, "the key to be home again", func() bool {
		return harness.Get(t, c.addr, "/", "h", "X-User: one").Header.Get("X-Backend") == home
	})
}
