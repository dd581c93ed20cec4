package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// benchCase is one row of the comparison.
type benchCase struct {
	name    string
	section string // heading above the first case that has it; "": none
	title   string
	log     bool // access logs on
	load    func(l *lab, url string) (sample, error)
	size    int64                          // bytes of a request that is bulk; 0: requests are counted
	of      func(*lab) ([]server, error)   // nil: those of the lab
	scheme  string                         // of the URL; "": http
	warm    func(l *lab, url string) error // before the load; nil: small requests of wrk
	needs   tls.CurveID                    // servers that cannot exchange keys by it are left out; 0: all can
	columns []column                       // nil: those that fit what was measured
}

// Sections of the document.
const (
	sectionSessions = "Sessions"
	sectionTLS      = "TLS"
	sectionTCP      = "TCP proxy"
)

// cases in the order of the document.
var cases = []benchCase{
	{name: "small-64", title: "Small replies (101 bytes), 64 keep-alive connections", load: wrkLoad(64, "/small", "")},
	{name: "small-1000", title: "Small replies, 1000 keep-alive connections", load: wrkLoad(1000, "/small", "")},
	{name: "small-log", title: "Small replies, 64 connections, access logs on", log: true, load: wrkLoad(64, "/small", "")},
	{name: "down-16k", title: "16 KiB replies, 64 connections", load: wrkLoad(64, "/16k", "")},
	{name: "down-10m", title: "10 MiB replies, 8 connections", load: wrkLoad(8, "/10m", "")},
	{name: "up-16k", title: "16 KiB request bodies, 64 connections", load: wrkLoad(64, "/sink", post(16<<10))},
	{name: "up-10m", title: "10 MiB request bodies, 8 connections", load: wrkLoad(8, "/sink", post(10<<20))},
	{name: "connect", title: "A new connection for each request, 64 clients", load: wrkLoad(64, "/small", `wrk.headers["Connection"] = "close"`)},
	{name: "rate", title: "Small replies at a fixed rate of 8000/s (open loop), 64 connections", load: openLoad(8000, 64)},
	{name: "idle", title: "Idle keep-alive connections (9500, each after one request and 5 s of quiet)", load: idleLoad(9500, "/small")},
}

// allCases are those of all sections.
func allCases() []benchCase { return slices.Concat(cases, sessionCases, inTLS(tlsCases), tcpCases) }

// post is a wrk script that sends a body of n bytes.
func post(n int) string {
	return fmt.Sprintf(`wrk.method = "POST"
wrk.body = string.rep("x", %d)
wrk.headers["Content-Type"] = "application/octet-stream"`, n)
}

const nginxConf = `daemon off; master_process on; worker_processes 1; pid %[1]s/nginx-%[2]d.pid; error_log %[1]s/nginx-error.log;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  access_log %[3]s;
  client_body_temp_path %[1]s/nb; proxy_temp_path %[1]s/np; fastcgi_temp_path %[1]s/nf; uwsgi_temp_path %[1]s/nu; scgi_temp_path %[1]s/ns;
  keepalive_requests 1000000000; keepalive_timeout 75s; client_max_body_size 0;
  proxy_request_buffering off;
  upstream small { server 127.0.0.1:%[4]d; keepalive 1100; keepalive_requests 1000000000; }
  upstream sink { server 127.0.0.1:%[5]d; keepalive 1100; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:%[2]d backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    location / { proxy_pass http://small; }
    location /sink { proxy_pass http://sink; }
  }
}
`

const haproxyConf = `global
  nbthread 1
  maxconn 9900
  %[3]s
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive 75s
  http-reuse always
  option forwardfor
  unique-id-format %%{+X}o%%ci:%%cp_%%fi:%%fp_%%Ts_%%rt:%%pid
  unique-id-header X-Request-Id
  %[6]s
frontend f
  bind 127.0.0.1:%[2]d backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  use_backend sink if { path_beg /sink }
  default_backend small
backend small
  server a 127.0.0.1:%[4]d pool-max-conn -1
backend sink
  server a 127.0.0.1:%[5]d pool-max-conn -1
`

const belayConf = `[server]
workers = 1
max_connections = 9900
[admin]
socket = "%[1]s/belay-%[2]d.sock"
[access_log]
output = "%[3]s"
[listener.f]
address = "127.0.0.1:%[2]d"
[[listener.f.route]]
path_prefix = "/sink"
cluster = "sink"
[[listener.f.route]]
cluster = "small"
[cluster.small]
max_idle = 1100
endpoints = [{ id = "a", address = "127.0.0.1:%[4]d" }]
[cluster.sink]
max_idle = 1100
endpoints = [{ id = "a", address = "127.0.0.1:%[5]d" }]
`

const backendConf = `daemon off; worker_processes 1; pid %[1]s/backend.pid; error_log %[1]s/backend-error.log;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path %[1]s/bb; proxy_temp_path %[1]s/bp; fastcgi_temp_path %[1]s/bf; uwsgi_temp_path %[1]s/bu; scgi_temp_path %[1]s/bs;
  server {
    listen 127.0.0.1:%[2]d backlog=4096; listen 127.0.0.2:%[2]d backlog=4096;
    root %[1]s/www;
    location = /small { default_type text/plain; return 200 "%[3]s"; }
  }
}
`

// writeWWW makes the files that the backend serves.
func writeWWW(dir string) error {
	www := filepath.Join(dir, "www")
	if err := os.MkdirAll(www, 0o755); err != nil {
		return err
	}
	for name, n := range map[string]int{"16k": 16 << 10, "1m": 1 << 20, "10m": 10 << 20} {
		if err := os.WriteFile(filepath.Join(www, name), make([]byte, n), 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}
