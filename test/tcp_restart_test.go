package test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// Connections outlive a hot restart in the process that has them; nobody who
// comes is refused; new ones are the new process's.
func TestTCPHotRestart(t *testing.T) {
	for _, race := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "race"}[race], func(t *testing.T) {
			s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, more: patient}
			d := serveTCP(t, s, harness.Options{Race: race})
			var held []*net.TCPConn
			for range 50 {
				c := dialTCP(t, s.addr)
				echoes(t, c, "before")
				held = append(held, c)
			}
			var stop atomic.Bool
			var wg sync.WaitGroup
			var came atomic.Int64
			for range 4 {
				wg.Go(func() {
					for !stop.Load() {
						c, err := net.DialTimeout("tcp", s.addr, patience)
						if err != nil {
							t.Errorf("refused: %v", err)
							return
						}
						_ = c.SetDeadline(time.Now().Add(patience))
						b := make([]byte, 4)
						_, _ = io.WriteString(c, "ping")
						if _, err := io.ReadFull(c, b); err != nil {
							t.Errorf("no echo: %v", err)
						}
						_ = c.Close()
						came.Add(1)
						time.Sleep(time.Millisecond) // a pace that leaves the daemon some of two CPUs
					}
				})
			}
			for _, c := range held {
				wg.Go(func() {
					for !stop.Load() {
						echoes(t, c, "during")
						time.Sleep(10 * time.Millisecond) // the same
					}
				})
			}
			old := d.PID()
			g := d.HotRestart()
			g2 := d.HotRestart()
			time.Sleep(200 * time.Millisecond) // traffic on both sides of the restart
			stop.Store(true)
			wg.Wait()
			for _, c := range held {
				echoes(t, c, "after")
			}
			fresh := dialTCP(t, s.addr)
			echoes(t, fresh, "new")
			if !harness.ProcessAlive(old) || g.PID == g2.PID {
				t.Errorf("process %d has the old connections and is gone, or %d is %d", old, g.PID, g2.PID)
			}
			t.Logf("%d connections came meanwhile, none was refused", came.Load())
			for _, c := range held {
				_ = c.Close()
			}
			if code := d.Wait(patience); code != 0 {
				t.Errorf("the old process: exit code %d", code)
			}
			echoes(t, fresh, "still")
		})
	}
}

// At shutdown_time what is left in the old process is cut, and said so.
func TestTCPShutdownTime(t *testing.T) {
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)},
		more: "[hot_restart]\nprobation = \"200ms\"\nheartbeat = \"2s\"\ndrain_time = \"100ms\"\nshutdown_time = \"1s\"\n"}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	echoes(t, c, "before")
	d.HotRestart()
	echoes(t, c, "after")
	expectReset(t, c)
	d.WaitLine("time is over: connections cut")
	waitEnd(d, "stopped")
	if code := d.Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// SIGTERM leaves connections alone for stop_time; the last one's end ends the
// process before that.
func TestTCPStop(t *testing.T) {
	t.Parallel()
	s := &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, more: "[server]\nworkers = 2\nstop_time = \"1s\"\n"}
	d := serveTCP(t, s)
	c := dialTCP(t, s.addr)
	echoes(t, c, "before")
	d.Signal(syscall.SIGTERM)
	d.WaitLine("stop") // any word on it
	echoes(t, c, "after")
	start := time.Now()
	expectReset(t, c)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("cut after %v", took)
	}
	if code := d.Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}

	s = &tcpSite{endpoints: []string{tcpServer(t, echoTCP)}, more: "[server]\nworkers = 2\nstop_time = \"30s\"\n"}
	d = serveTCP(t, s)
	c = dialTCP(t, s.addr)
	echoes(t, c, "before")
	d.Signal(syscall.SIGTERM)
	_ = c.Close()
	if code := d.Wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
