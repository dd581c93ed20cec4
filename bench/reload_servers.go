package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	reloadProbation = 200 * time.Millisecond
	reloadHead      = "[hot_restart]\nprobation = \"200ms\"\ndrain_time = \"1s\"\n"
)

// reloader is a server that is reloaded. Its configuration is that of the other
// cases plus a header that tells which number it has.
type reloader struct {
	name      string
	text      string // configuration
	after     string // the line of it that the header's goes behind
	mark      string // the header's line, with %d for the number
	more      string // for the log's place of the template, which has no log here
	defaults  string // the same for the second place
	start     []string
	probation time.Duration // that command spends on purpose

	command func(r *reloadRun) error // reloads; returns when the program does
}

// reloadRun is one of them while it runs.
type reloadRun struct {
	lab   *lab
	srv   *reloader
	port  int
	conf  string
	first *exec.Cmd
	later []int // processes that a hot restart started, which are nobody's children
}

const (
	haproxyAfter = "  default_backend small\n"
	haproxyMark  = "  http-response set-header " + generationHeader + " %d\n"
	idleClose    = "option idle-close-on-response"
)

func (l *lab) reloaders() []reloader {
	haproxy := reloader{
		text: haproxyConf, after: haproxyAfter, mark: haproxyMark,
		more:  "stats socket " + l.dir + "/haproxy.sock mode 600 level admin expose-fd listeners",
		start: []string{"haproxy", "-W", "-f", "%s"}, command: (*reloadRun).signalMaster,
	}
	plain, spread := haproxy, haproxy
	plain.name = "haproxy"
	spread.name, spread.defaults = "haproxy, idle-close-on-response", idleClose
	return []reloader{
		{
			name: "belay", text: reloadHead + belayConf, after: "[[listener.f.route]]\ncluster = \"small\"\n",
			mark: "[listener.f.route.response_headers]\nset = { " + generationHeader + " = \"%d\" }\n", more: "none",
			start: []string{l.s.belayd, "--config", "%s"}, probation: reloadProbation, command: (*reloadRun).hotRestart,
		},
		{
			name: "nginx", text: nginxConf, after: "proxy_set_header X-Request-Id $request_id;\n",
			mark: "    add_header " + generationHeader + " %d;\n", more: "off",
			start: []string{"nginx", "-c", "%s", "-p", l.dir}, command: (*reloadRun).nginxReload,
		},
		plain, spread,
	}
}

// begin starts a server with configuration 0.
func (l *lab) begin(srv *reloader) (*reloadRun, error) {
	r := &reloadRun{lab: l, srv: srv, port: freePort(), conf: filepath.Join(l.dir, "reload-"+strings.Fields(srv.name)[0])}
	if err := r.write(0); err != nil {
		return nil, err
	}
	args := make([]string, len(srv.start))
	for i, a := range srv.start {
		args[i] = strings.ReplaceAll(a, "%s", r.conf)
	}
	r.first = l.pinned(l.s.serverCPU, args[0], args[1:]...)
	r.first.Stderr = nil
	if err := r.first.Start(); err != nil {
		return nil, err
	}
	return r, waitPort(r.port)
}

// write makes configuration n the one that the next reload reads.
func (r *reloadRun) write(n int) error {
	text, ok := behind(r.srv.text, r.srv.after, fmt.Sprintf(r.srv.mark, n))
	if !ok {
		return fmt.Errorf("the configuration of %s has no %q", r.srv.name, r.srv.after)
	}
	l := r.lab
	body := fmt.Sprintf(text, l.dir, r.port, r.srv.more, l.small, l.sink, r.srv.defaults)
	body, _, _ = strings.Cut(body, "%!(EXTRA")
	return os.WriteFile(r.conf, []byte(body), 0o644)
}

// behind puts a line behind another.
func behind(text, line, more string) (string, bool) {
	before, rest, ok := strings.Cut(text, line)
	return before + line + more + rest, ok
}

// end ends all processes of the server.
func (r *reloadRun) end() {
	for _, pid := range r.later {
		// It may have ended long ago, and its number be another's by now.
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), r.conf) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	stop(r.first)
}

var mainLine = regexp.MustCompile(`\(process (\d+)\) is main`)

// hotRestart runs the command as an operator without a service manager would.
// Its output goes to a file: the new process keeps it open.
func (r *reloadRun) hotRestart() error {
	path := filepath.Join(r.lab.dir, "hot-restart.log")
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	c := r.lab.pinned(r.lab.s.serverCPU, r.lab.s.belayd, "hot-restart", "--config", r.conf)
	c.Stdout, c.Stderr = out, out
	failed := c.Run()
	said, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if m := mainLine.FindSubmatch(said); m != nil {
		pid, _ := strconv.Atoi(string(m[1]))
		r.later = append(r.later, pid)
	}
	if failed != nil {
		return fmt.Errorf("hot-restart: %w: %s", failed, said)
	}
	return nil
}

func (r *reloadRun) nginxReload() error {
	c := r.lab.pinned(r.lab.s.serverCPU, "nginx", "-s", "reload", "-c", r.conf, "-p", r.lab.dir)
	c.Stderr = nil // it says there that it sends a signal
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nginx -s reload: %w: %s", err, out)
	}
	return nil
}

func (r *reloadRun) signalMaster() error { return r.first.Process.Signal(syscall.SIGUSR2) }
