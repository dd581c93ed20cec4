package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// redisServer is Debian's Redis, without a disk.
type redisServer struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
}

func newRedis(t *testing.T) *redisServer {
	t.Helper()
	harness.Need(t, "redis-server")
	r := &redisServer{t: t, addr: harness.Addr(t)}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.cmd = exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", harness.TempDir(r.t))
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	harness.Eventually(r.t, patience, "redis-server to listen", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (r *redisServer) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Signal(syscall.SIGKILL)
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// twoMachines are two belayds before the same applications, which share the sessions
// of the header X-User.
func twoMachines(t *testing.T, r *redisServer) (a, b *shop) {
	t.Helper()
	a = newShop(t, 4)
	a.modes = "[cluster.back.persistence.table]\nname = \"users\"\nkey = [{ header = \"X-User\" }]\n"
	a.more = fmt.Sprintf("[table.users]\nstore = \"redis://%s/0\"\n", r.addr)
	second := *a
	b = &second
	b.bind = harness.Addr(t)
	a.open()
	b.open()
	for _, s := range []*shop{a, b} {
		s.storeUp(1)
	}
	return a, b
}

func (s *shop) storeUp(want float64) {
	s.t.Helper()
	harness.Eventually(s.t, patience, fmt.Sprintf("belay_table_store_up to be %v", want), func() bool {
		v, ok := s.d.Metric("belay_table_store_up", `table="users"`)
		return ok && v == want
	})
}

func (s *shop) entries(want int) {
	s.t.Helper()
	harness.Eventually(s.t, patience, fmt.Sprintf("%d entries", want), func() bool {
		v, ok := s.d.Metric("belay_table_entries", `table="users"`)
		return ok && int(v) == want
	})
}

// A session that began on one machine is kept by the other, also by one that has
// restarted, and what an operator drops is gone from both.
func TestTableStore(t *testing.T) {
	t.Parallel()
	a, b := twoMachines(t, newRedis(t))
	const n = 40
	at := make([]string, n)
	for i := range n {
		at[i] = a.visit(a.browser(), fmt.Sprintf("X-User: user%d", i)).Backend()
	}
	b.entries(n)
	for i := range n {
		if got := b.visit(b.browser(), fmt.Sprintf("X-User: user%d", i)).Backend(); got != at[i] {
			t.Fatalf("user%d of %s is on %s at the other machine", i, at[i], got)
		}
	}
	b.restart()
	for i := range n {
		if got := b.visit(b.browser(), fmt.Sprintf("X-User: user%d", i)).Backend(); got != at[i] {
			t.Fatalf("user%d of %s is on %s after a hot restart", i, at[i], got)
		}
	}
	clearUsers(t, a.d)
	a.entries(0)
	b.entries(0)
}

func clearUsers(t *testing.T, d *harness.Daemon) {
	t.Helper()
	req, err := http.NewRequest(http.MethodDelete, "http://belay/table?name=users&all=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.AdminClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("clear: status %d: %s", resp.StatusCode, body)
	}
}

// The store goes and comes back empty under load: no request fails and no session
// moves, and afterwards both machines know all sessions.
func TestTableStoreOutageUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	a, b := twoMachines(t, r)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var good atomic.Int64
	const users = 6
	begun := make([][]*stay, users)
	for i := range users {
		s := []*shop{a, b}[i%2]
		wg.Go(func() {
			u := &visitor{addr: s.bind, fresh: i < 2}
			defer u.close()
			for n := 0; !stop.Load(); n++ {
				k := tableSession(int64(i*1000000 + n))
				if err := u.begin(k); err != nil {
					t.Errorf("user %d: %v", i, err)
					return
				}
				begun[i] = append(begun[i], k)
				for _, k := range begun[i][max(0, n-5):] {
					if err := u.again(k); err != nil {
						t.Errorf("user %d: %v", i, err)
						return
					}
					good.Add(1)
				}
				time.Sleep(2 * time.Millisecond) // a user's own pace
			}
		})
	}
	defer func() { stop.Store(true); wg.Wait() }()
	some := func() {
		t.Helper()
		goal := good.Load() + 2000
		harness.Eventually(t, time.Minute, "requests", func() bool { return good.Load() >= goal || t.Failed() })
	}
	for range 2 {
		some()
		r.stop()
		a.storeUp(0)
		b.storeUp(0)
		some()
		r.start()
		a.storeUp(1)
		b.storeUp(1)
	}
	some()
	stop.Store(true)
	wg.Wait()
	total := 0
	for _, list := range begun {
		total += len(list)
	}
	for _, s := range []*shop{a, b} {
		s.entries(total)
		u := &visitor{addr: s.bind}
		for _, list := range begun {
			for _, k := range list {
				if err := u.again(k); err != nil {
					t.Fatal(err)
				}
			}
		}
		u.close()
		if gone, back := s.d.CountLines("table store is away"), s.d.CountLines("table store is back"); gone != 2 || back != 2 {
			t.Errorf("told %d times that the store went and %d times that it is back, want 2 each", gone, back)
		}
	}
}
