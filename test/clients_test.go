package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// command runs a real client and fails the test when it does.
func command(t *testing.T, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// nginx runs a real nginx on addr that serves files from dir and returns it.
func nginx(t *testing.T, dir string) string {
	t.Helper()
	harness.Need(t, "nginx")
	addr := harness.Addr(t)
	conf := harness.WriteFile(t, dir, "nginx.conf", fmt.Sprintf(`daemon off;
pid %[1]s/pid;
error_log %[1]s/error.log;
worker_processes 1;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  gzip on; gzip_types text/plain; gzip_proxied any;
  server { listen %[2]s; root %[1]s/www; client_max_body_size 0; location /put { return 200 "took $content_length"; } }
}
`, dir, addr))
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/www", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-e", dir+"/error.log", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	harness.Eventually(t, patience, "nginx listens", func() bool {
		c, err := harness.TryDial("", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return addr
}

// curl through belay to nginx: files of all sizes, ranges, conditional
// requests, compression, HEAD, HTTP/1.0, uploads with 100-continue.
func TestCurlThroughToNginx(t *testing.T) {
	t.Parallel()
	harness.Need(t, "curl", "nginx")
	dir := harness.TempDir(t)
	s := &site{endpoints: []string{nginx(t, dir)}}
	serve(t, s)
	big := harness.WriteFile(t, dir+"/www", "big", strings.Repeat("0123456789abcdef", 10<<16)) // 10 MiB
	small := harness.WriteFile(t, dir+"/www", "small.txt", strings.Repeat("small text ", 1000))
	url := "http://" + s.addr
	curl := func(args ...string) string { return command(t, append([]string{"curl", "-sS"}, args...)...) }
	for name, file := range map[string]string{"big": big, "small.txt": small} {
		curl("-o", dir+"/got", url+"/"+name)
		command(t, "cmp", file, dir+"/got")
		curl("--http1.0", "-o", dir+"/got", url+"/"+name)
		command(t, "cmp", file, dir+"/got")
	}
	if out := curl("-r", "10-19", url+"/big"); out != "abcdef0123" {
		t.Errorf("range %q", out)
	}
	curl("--compressed", "-o", dir+"/got", url+"/small.txt")
	command(t, "cmp", small, dir+"/got")
	want(t, curl("-I", url+"/big"), "200 OK", "Content-Length: 10485760")
	if out := curl("-o", "/dev/null", "-w", "%{http_code}", "-z", big, url+"/big"); out != "304" {
		t.Errorf("conditional request: %s", out)
	}
	if out := curl("-o", "/dev/null", "-w", "%{http_code}", url+"/missing"); out != "404" {
		t.Errorf("missing file: %s", out)
	}
	want(t, curl("-v", "-H", "Expect: 100-continue", "-T", big, url+"/put"), "100 Continue", "took 10485760")
	want(t, curl("-H", "Transfer-Encoding: chunked", "-T", small, url+"/put"), "took")
	if out := curl("-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", url+"/big", url+"/small.txt", url+"/missing"); out != "1 0 0 " {
		t.Errorf("connections made for three requests: %s", out)
	}
}

// wrk and h2load (HTTP/1.1) as load: not one error.
func TestLoadGenerators(t *testing.T) {
	harness.Need(t, "wrk", "h2load")
	dir := harness.TempDir(t)
	s := &site{endpoints: []string{nginx(t, dir)}}
	d := serve(t, s)
	harness.WriteFile(t, dir+"/www", "index.html", strings.Repeat("x", 100))
	url := "http://" + s.addr + "/"

	out := command(t, "wrk", "-t1", "-c64", "-d2s", "--latency", url)
	wantNot(t, out, "Socket errors", "Non-2xx")
	t.Log(regexp.MustCompile(`Requests/sec: .*`).FindString(out))

	out = command(t, "h2load", "--h1", "-n20000", "-c50", url)
	want(t, out, "20000 succeeded, 0 failed, 0 errored, 0 timeout")
	d.Stop()
}

// The same load on the build with the race detector.
func TestLoadOnTheRaceBuild(t *testing.T) {
	harness.Need(t, "h2load")
	s := &site{
		routes:    "[[listener.web.route]]\npath = \"/here\"\nrespond = { status = 200, body = \"x\" }\n",
		endpoints: []string{harness.NewEcho(t, "a").Addr, harness.NewEcho(t, "b").Addr},
		cluster:   "balance = \"least_request\"",
	}
	d := serve(t, s, harness.Options{Race: true})
	for _, path := range []string{"/", "/here"} {
		out := command(t, "h2load", "--h1", "-n3000", "-c30", "http://"+s.addr+path)
		want(t, out, "3000 succeeded, 0 failed")
		d.Admin("/metrics")
		d.Signal(syscall.SIGUSR1)
	}
	d.Stop()
	if n := len(d.Records()); n != 6000 {
		t.Errorf("%d records, want 6000", n)
	}
}

// WebSocket with a real client and a real server.
func TestWebSocketClientAndServer(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	harness.Need(t, python)
	if err := exec.Command(python, "-c", "import websockets").Run(); err != nil {
		t.Skip("python3-websockets is not installed")
	}
	back := harness.Addr(t)
	s := &site{endpoints: []string{back}}
	serve(t, s)
	host, port, _ := strings.Cut(back, ":")
	script := harness.WriteFile(t, harness.TempDir(t), "ws.py", `
import asyncio, sys, websockets
async def echo(ws, path=None):
    async for m in ws:
        await ws.send(m)
async def main(host, port, url):
    async with websockets.serve(echo, host, int(port), max_size=None):
        async with websockets.connect(url, max_size=None) as ws:
            for m in ["hello", "x" * 1000000, b"\x00\xff" * 70000]:
                await ws.send(m)
                assert await ws.recv() == m
            await (await ws.ping())
    print("echo ok")
asyncio.run(main(*sys.argv[1:]))
`)
	want(t, command(t, python, script, host, port, "ws://"+s.addr+"/chat"), "echo ok")
}

// HAProxy in front: its PROXY-less HTTP/1.1 and its health checks are ordinary traffic.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy", "curl")
	// HAProxy's check is an HTTP/1.0 request without Host.
	s := &site{listener: `trusted_proxies = ["127.0.0.0/8"]`, tables: "[listener.web.http1]\ndefault_host = \"check\"\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	outer := harness.Addr(t)
	conf := harness.WriteFile(t, harness.TempDir(t), "haproxy.cfg", fmt.Sprintf(`
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
  option httpchk GET /check
frontend f
  bind %s
  option forwardfor
  default_backend b
backend b
  http-reuse always
  server belay %s check inter 200ms
`, outer, s.addr))
	cmd := exec.Command("haproxy", "-q", "-db", "-f", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	harness.Eventually(t, patience, "an answer through HAProxy", func() bool {
		out, err := exec.Command("curl", "-sS", "-f", "http://"+outer+"/x").Output()
		// HAProxy writes the name in lower case, which belay keeps.
		return err == nil && strings.Contains(string(out), "GET /x HTTP/1.1") && strings.Contains(strings.ToLower(string(out)), "x-forwarded-for: 127.0.0.1, 127.0.0.1\r\n")
	})
}
