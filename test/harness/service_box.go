package harness

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// ServiceOptions say what is in a service box; the zero value is the host's systemd
// and the program as it is released.
type ServiceOptions struct {
	Trixie bool // systemd 257
	Fault  bool // the program obeys Fault
	Config string
}

// ServiceBox is a box in which everything of the package lies where it belongs.
// Nothing of it runs until the test starts it. A backend serves at ServiceBackend,
// another one, Gate, at ServiceGate.
type ServiceBox struct {
	*FaultBox
	Gate *Gate
}

// Where the backends of a service box are.
const (
	ServiceBackend = "127.0.0.1:9001"
	ServiceGate    = "127.0.0.1:9002"
)

// BootServiceBox boots such a box.
func BootServiceBox(t testing.TB, o ServiceOptions) *ServiceBox {
	t.Helper()
	root := Root(t)
	daemon := Binary(t, "belayd", false)
	if o.Fault {
		daemon = FaultBinary(t)
	}
	b := BootBox(t, BoxOptions{Trixie: o.Trixie, Copy: map[string]string{
		"/usr/lib/systemd/system/belay.service":  filepath.Join(root, "systemd/belay.service"),
		"/usr/lib/sysusers.d/belay.conf":         filepath.Join(root, "systemd/belay.sysusers"),
		"/usr/lib/tmpfiles.d/belay.conf":         filepath.Join(root, "systemd/belay.tmpfiles"),
		"/usr/lib/systemd/catalog/belay.catalog": filepath.Join(root, "systemd/belay.catalog"),
		"/etc/logrotate.d/belay":                 filepath.Join(root, "packaging/belay.logrotate"),
		"/usr/sbin/belayd":                       daemon,
	}})
	b.MustExec("systemd-sysusers")
	s := &ServiceBox{FaultBox: &FaultBox{Box: b, Backend: StartLoadBackend(b, ServiceBackend)}, Gate: startGate(b)}
	s.Write(o.Config)
	if o.Fault {
		s.DropIn("")
	}
	return s
}

// Write writes the configuration.
func (b *ServiceBox) Write(config string) {
	b.t.Helper()
	b.WriteFile(faultConfig, config)
}

// Listening looks at the TCP sockets that listen on a port of the box: how many
// connections wait in their queues, and which processes, as the box numbers them,
// hold one.
func (b *ServiceBox) Listening(port int) (queued int, holders []int) {
	b.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/tcp", b.init))
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var sockets []string
	for in := bufio.NewScanner(f); in.Scan(); {
		// proc_pid_net_tcp: local address, state (0A listens), queues, inode.
		w := strings.Fields(in.Text())
		if len(w) < 10 || w[3] != "0A" || !strings.HasSuffix(w[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		_, waiting, _ := strings.Cut(w[4], ":")
		n, err := strconv.ParseInt(waiting, 16, 64)
		if err != nil {
			b.t.Fatalf("queue of a socket: %v", err)
		}
		queued += int(n)
		sockets = append(sockets, "socket:["+w[9]+"]")
	}
	for inside, host := range b.Processes() {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", host))
		for _, path := range files {
			if to, err := os.Readlink(path); err == nil && slices.Contains(sockets, to) {
				holders = append(holders, inside)
				break
			}
		}
	}
	return queued, holders
}

// Gate is a backend that answers every request when it is told to.
type Gate struct {
	waiting atomic.Int64

	mu   sync.Mutex
	open chan struct{} // closed and replaced
}

func startGate(b *Box) *Gate {
	b.t.Helper()
	g := &Gate{open: make(chan struct{})}
	b.InNetwork(func() { NewBackendAt(b.t, ServiceGate, g.serve) })
	b.t.Cleanup(g.Open)
	return g
}

func (g *Gate) serve(p *Peer) {
	for p.Head() != "" {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		g.waiting.Add(1)
		<-open
		g.waiting.Add(-1)
		if p.Send(Reply200("held")) != nil {
			return
		}
	}
}

// Waiting is how many requests wait at the gate.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }

// Open answers those that wait.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = make(chan struct{})
}
