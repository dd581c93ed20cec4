package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// The cases of the TCP proxy: wrk speaks HTTP with the file backend through it, so
// a request is so many bytes in one direction; pgbench speaks with a PostgreSQL.

var tcpCases = []benchCase{
	{name: "tcp-small-64", section: sectionTCP, title: "Small messages, 64 connections", load: wrkLoad(64, "/small", ""), of: tcpServers(true)},
	{name: "tcp-small-1", section: sectionTCP, title: "Small messages, 1 connection", load: wrkLoad(1, "/small", ""), of: tcpServers(true)},
	{name: "tcp-splice-1", section: sectionTCP, title: "Bulk, 1 connection, spliced", load: wrkLoad(1, "/10m", ""), size: 10 << 20, of: tcpServers(true)},
	{name: "tcp-splice-8", section: sectionTCP, title: "Bulk, 8 connections, spliced", load: wrkLoad(8, "/10m", ""), size: 10 << 20, of: tcpServers(true)},
	{name: "tcp-copy-1", section: sectionTCP, title: "Bulk, 1 connection, copied", load: wrkLoad(1, "/10m", ""), size: 10 << 20, of: tcpServers(false)},
	{name: "tcp-copy-8", section: sectionTCP, title: "Bulk, 8 connections, copied", load: wrkLoad(8, "/10m", ""), size: 10 << 20, of: tcpServers(false)},
	{name: "tcp-pgbench-1", section: sectionTCP, title: "PostgreSQL: pgbench, select-only, 1 connection", load: pgbenchLoad(1), warm: pgbenchWarm, of: pgServers, columns: queryColumns},
	{name: "tcp-pgbench-8", section: sectionTCP, title: "PostgreSQL: pgbench, select-only, 8 connections", load: pgbenchLoad(8), warm: pgbenchWarm, of: pgServers, columns: queryColumns},
}

// tcpServers are the measured programs as TCP proxies before the file backend;
// spliced, or copying through 64 KiB (nginx and belay; HAProxy has 16).
func tcpServers(spliced bool) func(*lab) ([]server, error) {
	return func(l *lab) ([]server, error) {
		name, haproxy := "copy", ""
		if spliced {
			name, haproxy = "splice", "option splice-request\n  option splice-response"
		}
		return []server{
			{"belay " + name, l.tcp("belay", belayTCPConf, fmt.Sprint(spliced), l.s.belayd, "--config")},
			{"nginx stream", l.tcp("nginx", nginxTCPConf, "", "nginx", "-p", l.dir, "-c")},
			{"haproxy " + name, l.tcp("haproxy", haproxyTCPConf, haproxy, "haproxy", "-db", "-f")},
		}, nil
	}
}

// tcp makes a start function; the path of the configuration is the last argument.
func (l *lab) tcp(name, text, option, program string, args ...string) func(int, bool) (*exec.Cmd, error) {
	return func(port int, _ bool) (*exec.Cmd, error) {
		path := filepath.Join(l.dir, name+"-tcp.conf")
		if err := os.WriteFile(path, fmt.Appendf(nil, text, l.dir, port, l.small, option), 0o644); err != nil {
			return nil, err
		}
		c := l.pinned(l.s.serverCPU, program, append(slices.Clone(args), path)...)
		if name != "nginx" {
			c.Stderr = nil
		}
		return c, nil
	}
}

const belayTCPConf = `[server]
workers = 1
max_connections = 9900
[admin]
socket = "%[1]s/belay-%[2]d.sock"
[listener.f]
address = "127.0.0.1:%[2]d"
protocol = "tcp"
cluster = "small"
[listener.f.tcp]
splice = %[4]s
[cluster.small]
endpoints = [{ id = "a", address = "127.0.0.1:%[3]d" }]
`

const nginxTCPConf = `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; master_process on; worker_processes 1; pid %[1]s/nginx-%[2]d.pid; error_log %[1]s/nginx-error.log;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
stream {
  upstream small { server 127.0.0.1:%[3]d; }
  server { listen 127.0.0.1:%[2]d backlog=4096; proxy_pass small; proxy_buffer_size 64k; tcp_nodelay on; }
}
# %[4]s
`

const haproxyTCPConf = `global
  nbthread 1
  maxconn 1000
  # with its pipes it must fit the descriptor limit. %[1]s
defaults
  mode tcp
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  %[4]s
frontend f
  bind 127.0.0.1:%[2]d backlog 4096
  default_backend small
backend small
  server a 127.0.0.1:%[3]d
`
