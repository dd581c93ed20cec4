package test

import (
	"net"
	"strings"
	"testing"

	"belay/test/harness"
)

// narrowed is a site on a wildcard, and the address of it to which the next
// configuration narrows it.
func narrowed(t *testing.T) (s *site, wide, narrow string) {
	t.Helper()
	s = restartable(t)
	narrow = harness.Addr(t)
	_, port, _ := net.SplitHostPort(narrow)
	s.addr = "0.0.0.0:" + port
	return s, s.addr, narrow
}

// A child whose configuration narrows a wildcard to one address of it takes nobody
// from its parent before it accepts: who connects while it prepares, and fails, is
// served.
func TestHotRestartNarrowsAndFails(t *testing.T) {
	t.Parallel()
	s, wide, narrow := narrowed(t)
	d, arm := faulty(t, s)
	c := startClients(t, narrow, 2, 2)
	rewrite(t, d, wide, narrow)
	for i, action := range []string{"stop", "kill"} {
		arm("child.built", action)
		before := c.good.Load()
		if g, code := d.TryHotRestart(); code != 1 || !strings.Contains(g.Output, "fault: child.built") {
			t.Errorf("%s: exit code %d\n%s", action, code, g.Output)
		}
		if c.good.Load() == before {
			t.Errorf("%s: nobody was served meanwhile", action)
		}
		if st := statusOf(t, d); st.Epoch != 1 || st.Restarts.Failed != i+1 {
			t.Errorf("%s: %+v", action, st)
		}
	}
	c.end()
}

// The same one succeeds: nobody is lost, and afterwards only that address is left.
func TestHotRestartNarrows(t *testing.T) {
	t.Parallel()
	s, wide, narrow := narrowed(t)
	d := ordinary(t, s)
	c := startClients(t, narrow, 2, 0)
	rewrite(t, d, wide, narrow)
	d.HotRestart()
	before := c.good.Load()
	harness.Eventually(t, patience, "clients of the new process", func() bool { return c.good.Load() > before+20 })
	c.end()
	_, port, _ := net.SplitHostPort(narrow)
	if x, err := harness.TryDial("", "127.0.0.1:"+port); err == nil {
		_ = x.Close()
		t.Error("another address of the wildcard accepts")
	}
}
