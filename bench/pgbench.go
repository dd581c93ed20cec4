package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// database is a PostgreSQL of Debian behind the TCP proxies.
type database struct {
	lab  *lab
	bin  string // folder of its programs
	dir  string
	port int
	as   *syscall.Credential // nil: as ourselves; it refuses to run as root
	cmd  *exec.Cmd
}

// pgServers are the TCP proxies before a PostgreSQL, which the first case starts.
func pgServers(l *lab) ([]server, error) {
	if l.db == nil {
		db := &database{lab: l, dir: filepath.Join(l.dir, "postgres"), port: freePort()}
		if err := db.start(); err != nil {
			db.stop()
			return nil, err
		}
		l.db = db
	}
	l2 := *l
	l2.small = l.db.port
	return tcpServers(true)(&l2)
}

// start makes a database with pgbench's tables and serves it.
func (d *database) start() error {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return errors.New("no PostgreSQL here: run test/install-deps.sh")
	}
	d.bin = bins[len(bins)-1]
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(d.dir, int(uid), int(gid))); err != nil {
			return err
		}
		d.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(d.dir, "data")
	if out, err := d.command("initdb", "-D", data, "-A", "trust", "--no-sync", "-U", "bench").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	d.cmd = d.command("postgres", "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(d.port), "-k", d.dir, "-F", "-c", "max_connections=50")
	d.cmd.Stderr = nil
	if err := d.cmd.Start(); err != nil {
		return err
	}
	if err := d.await(); err != nil {
		return err
	}
	if out, err := d.client("pgbench", d.port, "-i", "-q", "-s", "1", "postgres").CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	return nil
}

// await returns when it answers queries: its port is open before.
func (d *database) await() error {
	var out []byte
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if out, err = d.client("pg_isready", d.port, "-q").CombinedOutput(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("pg_isready: %w: %s", err, out)
}

// stop ends it; a nil database and one that never ran are fine. Its processes
// are in sessions of their own: it has to end them itself, by a fast shutdown.
func (d *database) stop() {
	if d == nil || d.cmd == nil || d.cmd.Process == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGINT)
	late := time.AfterFunc(replyWait, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	_ = d.cmd.Wait()
}

// command is a program of the server, as the user that it runs as.
func (d *database) command(name string, args ...string) *exec.Cmd {
	c := d.lab.pinned(d.lab.s.loadCPU, filepath.Join(d.bin, name), args...)
	c.Stderr = nil
	c.Dir = d.dir
	c.SysProcAttr.Credential = d.as
	return c
}

// client is a program of the client, through a port of ours.
func (d *database) client(name string, port int, args ...string) *exec.Cmd {
	args = append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "bench"}, args...)
	c := d.lab.pinned(d.lab.s.loadCPU, filepath.Join(d.bin, name), args...)
	c.Stderr = nil
	c.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=10")
	return c
}

// pgbenchLoad is a closed loop of prepared queries for one row each.
func pgbenchLoad(conns int) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) { return l.db.pgbench(url, conns, l.s.duration) }
}

func pgbenchWarm(l *lab, url string) error {
	_, err := l.db.pgbench(url, 8, time.Second)
	return err
}

func (d *database) pgbench(url string, conns int, length time.Duration) (sample, error) {
	addr, _ := address(url)
	_, service, err := net.SplitHostPort(addr)
	if err != nil {
		return sample{}, err
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return sample{}, err
	}
	out, err := d.client("pgbench", port, "-S", "-n", "-M", "prepared", "-c", strconv.Itoa(conns),
		"-T", strconv.Itoa(max(1, int(length.Seconds()))), "postgres").CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return parsePgbench(string(out))
}

var (
	pgbenchDone    = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchFailed  = regexp.MustCompile(`number of failed transactions: (\d+)`)
	pgbenchLatency = regexp.MustCompile(`latency average = ([\d.]+) ms`)
	pgbenchRate    = regexp.MustCompile(`tps = ([\d.]+)`)
)

// parsePgbench reads the report. Before PostgreSQL 15 it has no line of failures:
// pgbench then ends with an error at the first.
func parsePgbench(out string) (sample, error) {
	number := func(re *regexp.Regexp) float64 {
		m := re.FindStringSubmatch(out)
		if m == nil {
			return 0
		}
		f, _ := strconv.ParseFloat(m[1], 64)
		return f
	}
	done, latency, rate := number(pgbenchDone), number(pgbenchLatency), number(pgbenchRate)
	if done == 0 || latency == 0 || rate == 0 {
		return sample{}, fmt.Errorf("pgbench said: %s", out)
	}
	return sample{
		requests: int64(done), seconds: done / rate, errors: int64(number(pgbenchFailed)),
		mean: time.Duration(latency * float64(time.Millisecond)),
	}, nil
}
