package test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

// The build with the race detector under all at once: sessions of both modes, hot
// restarts, servers that come, go and drain. Sessions may move here; no request may
// fail and no race be found.
func TestPersistRace(t *testing.T) {
	t.Parallel()
	s := bothModes(t)
	s.more += calmRestart
	s.route = `retry = { on = ["connect-failure", "reset"], attempts = 3, backoff = "1ms", budget_min = 100 }`
	s.routes = "[[listener.web.route]]\npath_prefix = \"/table\"\ncluster = \"back\"\n" + s.route + "\n" +
		"[listener.web.route.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
	s.policy = "policy = \"detour\"\ngrace = \"1s\"\nfirst_request_window = \"1s\"\n"
	s.open(harness.Options{Race: true, WaitTime: time.Minute})
	var stop atomic.Bool
	var wg sync.WaitGroup
	var good atomic.Int64
	for i := range 6 {
		wg.Go(func() {
			u := &visitor{addr: s.bind, fresh: i%2 == 0}
			defer u.close()
			for n := int64(0); !stop.Load(); n++ {
				c, k := cookieSession(), tableSession(int64(i)*1000+n%50)
				for range 5 {
					for _, x := range []*stay{c, k} {
						if err := u.begin(x); err != nil {
							t.Errorf("user %d: %v", i, err)
							return
						}
						good.Add(1)
					}
				}
			}
		})
	}
	defer func() { stop.Store(true); wg.Wait() }()
	some := func() {
		t.Helper()
		goal := good.Load() + 150
		harness.Eventually(t, time.Minute, "some requests", func() bool { return good.Load() >= goal || t.Failed() })
	}
	for range 2 {
		some()
		addr := s.apps["e1"].Addr
		s.apps["e1"].Stop()
		some()
		s.apps["e1"] = harness.NewAppAt(t, "e1", addr)
		wish(t, s.d, "back", "e2", "drain")
		some()
		s.restart()
		wish(t, s.d, "back", "e2", "enable")
		some()
	}
}
