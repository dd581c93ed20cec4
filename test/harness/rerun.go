package harness

import "time"

// Rerun starts belayd again in the directory and with the configuration of one that
// has ended, and waits until it serves.
func (d *Daemon) Rerun() *Daemon {
	d.t.Helper()
	if d.Running() {
		d.t.Fatal("rerun: belayd has not ended")
	}
	n := &Daemon{
		Dir: d.Dir, Config: d.Config, Socket: d.Socket, AccessLog: d.AccessLog,
		t: d.t, o: d.o, ready: make(chan struct{}), exited: make(chan struct{}), grown: make(chan struct{}),
	}
	n.run("run", "--config", n.Config)
	select {
	case <-n.ready:
	case <-n.exited:
		d.t.Fatalf("belayd ended instead of serving again: %v\n%s", n.waited, n.Stderr())
	case <-time.After(15 * time.Second):
		d.t.Fatalf("belayd does not serve again\n%s", n.Stderr())
	}
	return n
}
