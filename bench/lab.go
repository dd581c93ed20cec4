package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lab is the backends and, per measured server, how to start it.
type lab struct {
	s       *settings
	dir     string
	backend *exec.Cmd
	small   int // port of the file backend
	sink    int // port of the backend that swallows bodies
	servers []server
	db      *database // nil: not started yet
}

// server is one of the measured programs.
type server struct {
	name string
	// command starts it; the configuration is written first.
	command func(port int, logs bool) (*exec.Cmd, error)
}

// sample is one run's outcome.
type sample struct {
	requests       int64
	seconds        float64
	p50, p99, p999 time.Duration // 0: not measured
	mean           time.Duration
	rssPerConn     float64 // bytes; 0: not measured
	handshakes     float64 // a second, of a flood beside the requests
	errors         int64
	bytes          int64 // of bulk; 0: requests are counted

	user, system time.Duration // of the server, filled in by measure
}

func newLab(s *settings, dir string) (*lab, error) {
	l := &lab{s: s, dir: dir}
	if err := writeWWW(dir); err != nil {
		return nil, err
	}
	if err := l.startSink(); err != nil {
		return nil, err
	}
	l.small = freePort()
	conf := filepath.Join(dir, "backend.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, backendConf, dir, l.small, strings.Repeat("x", 100)+`\n`), 0o644); err != nil {
		return nil, err
	}
	l.backend = l.pinned(s.loadCPU, "nginx", "-c", conf, "-p", dir)
	if err := l.backend.Start(); err != nil {
		return nil, err
	}
	l.servers = l.httpServers(belayConf, nginxConf, haproxyConf)
	return l, waitPort(l.small)
}

// httpServers are the measured programs with these configurations.
func (l *lab) httpServers(belay, nginx, haproxy string) []server {
	return []server{
		{"belay", l.belay(belay)},
		{"nginx", l.conf("nginx", nginx, []string{"nginx", "-c", "%s", "-p", l.dir})},
		{"haproxy", l.conf("haproxy", haproxy, []string{"haproxy", "-db", "-f", "%s"})},
	}
}

func (l *lab) close() {
	l.db.stop()
	stop(l.backend)
}

// stayOffServer keeps this process, whose goroutines are clients and the backend
// for uploads, on the core of load and backend.
func (l *lab) stayOffServer() error {
	if out, err := l.pinned(l.s.loadCPU, "taskset", "-acp", l.s.loadCPU, strconv.Itoa(os.Getpid())).Output(); err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	return nil
}

// startSink serves the backend for uploads from this process.
func (l *lab) startSink() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.sink = ln.Addr().(*net.TCPAddr).Port
	buf := func() any { return make([]byte, 256<<10) }
	pool := make(chan any, 64)
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b any
		select {
		case b = <-pool:
		default:
			b = buf()
		}
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, b.([]byte))
		select {
		case pool <- b:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return nil
}

// pinned is a command on one core, which dies with us.
func (l *lab) pinned(cpu, name string, args ...string) *exec.Cmd {
	c := exec.Command("taskset", append([]string{"-c", cpu, name}, args...)...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

func (l *lab) belay(text string) func(int, bool) (*exec.Cmd, error) {
	return func(port int, logs bool) (*exec.Cmd, error) {
		out := "none"
		if logs {
			out = filepath.Join(l.dir, "belay-access.log")
		}
		conf := filepath.Join(l.dir, "belay.toml")
		if err := os.WriteFile(conf, fmt.Appendf(nil, text, l.dir, port, out, l.small, l.sink), 0o644); err != nil {
			return nil, err
		}
		c := l.pinned(l.s.serverCPU, l.s.belayd, "--config", conf)
		c.Stderr = nil
		return c, nil
	}
}

// conf makes a start function from a configuration template.
func (l *lab) conf(name, text string, args []string) func(int, bool) (*exec.Cmd, error) {
	return func(port int, logs bool) (*exec.Cmd, error) {
		first, second := "off", ""
		if logs {
			first = filepath.Join(l.dir, "nginx-access.log")
		}
		if name == "haproxy" {
			first = ""
			if logs {
				first, second = "log stdout format raw local0", "log global\n  option httplog"
			}
		}
		path := filepath.Join(l.dir, name+".conf")
		body := fmt.Sprintf(text, l.dir, port, first, l.small, l.sink, second)
		body, _, _ = strings.Cut(body, "%!(EXTRA")
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			return nil, err
		}
		a := slices.Clone(args[1:])
		for i := range a {
			a[i] = strings.ReplaceAll(a[i], "%s", path)
		}
		c := l.pinned(l.s.serverCPU, args[0], a...)
		if name == "haproxy" {
			c.Stderr = nil
			if logs {
				f, err := os.Create(filepath.Join(l.dir, "haproxy-access.log"))
				if err != nil {
					return nil, err
				}
				c.Stdout = f
			}
		}
		return c, nil
	}
}

// measure runs one case: every server once per round, in turn.
func (l *lab) measure(c benchCase) (string, error) {
	servers := l.servers
	var err error
	if c.of != nil {
		if servers, err = c.of(l); err != nil {
			return "", err
		}
	}
	if servers = l.wanted(servers); len(servers) == 0 {
		return "", fmt.Errorf("no server has %q in its name", l.s.servers)
	}
	if servers, err = l.able(c, servers); err != nil {
		return "", err
	}
	results := make([][]sample, len(servers))
	for range l.s.runs {
		for i, srv := range servers {
			m, err := l.once(srv, c)
			if err != nil {
				return "", fmt.Errorf("%s: %w", srv.name, err)
			}
			results[i] = append(results[i], m)
		}
	}
	return format(c, servers, results), nil
}

// wanted are the servers that the flag names; without it all.
func (l *lab) wanted(servers []server) []server {
	if l.s.servers == "" {
		return servers
	}
	return slices.DeleteFunc(slices.Clone(servers), func(s server) bool {
		return !slices.ContainsFunc(strings.Split(l.s.servers, ","), func(name string) bool { return strings.Contains(s.name, name) })
	})
}

// once starts a server, warms it up, loads it and reads what it used.
func (l *lab) once(srv server, c benchCase) (sample, error) {
	var m sample
	err := l.while(srv, c, func(cmd *exec.Cmd, url string) error {
		warm := warmUp
		if c.warm != nil {
			warm = c.warm
		}
		if err := warm(l, url); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
		l2 := *l
		l2.backend = cmd // for loads that look at the server itself
		u0, s0 := cpuTimes(cmd.Process.Pid)
		var err error
		m, err = c.load(&l2, url)
		u1, s1 := cpuTimes(cmd.Process.Pid)
		m.user, m.system = u1-u0, s1-s0
		m.bytes = c.size * m.requests
		return err
	})
	return m, err
}

// while runs a function while a server answers.
func (l *lab) while(srv server, c benchCase, do func(cmd *exec.Cmd, url string) error) error {
	port := freePort()
	cmd, err := srv.command(port, c.log)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer stop(cmd)
	if err := waitPort(port); err != nil {
		return err
	}
	scheme := "http"
	if c.scheme != "" {
		scheme = c.scheme
	}
	return do(cmd, fmt.Sprintf("%s://127.0.0.1:%d", scheme, port))
}

func warmUp(l *lab, url string) error {
	out, err := l.pinned(l.s.loadCPU, "wrk", "-t1", "-c32", "-d1s", url+"/small").Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// stop ends a process group that we started and waits for it.
func stop(c *exec.Cmd) {
	if c == nil || c.Process == nil {
		return
	}
	syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	c.Wait()
}

func freePort() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func waitPort(port int) error {
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on port %d", port)
}

// family is a process and its children (nginx works in a child).
func family(pid int) []int {
	pids := []int{pid}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, family(n)...)
		}
	}
	return pids
}

// cpuTimes is user and system time of a process family (proc(5), 10 ms ticks).
func cpuTimes(pid int) (user, system time.Duration) {
	for _, p := range family(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		u, _ := strconv.Atoi(f[11])
		s, _ := strconv.Atoi(f[12])
		user += time.Duration(u) * 10 * time.Millisecond
		system += time.Duration(s) * 10 * time.Millisecond
	}
	return user, system
}

// rss is the resident memory of a process family in bytes.
func rss(pid int) int64 {
	var sum int64
	for _, p := range family(pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		for _, line := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
				sum += n << 10
			}
		}
	}
	return sum
}
