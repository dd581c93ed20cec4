package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// The cases of session persistence: two endpoints, which are the same backend under two
// addresses, and requests that each bring a cookie of one of many sessions. The first
// case is the same without persistence; nginx 1.22 has hashing only.

// knownSessions are fewer than the tokens that a worker of belay remembers to have
// opened, and manySessions are more, so that each request's token is opened anew.
const (
	knownSessions = 1000
	manySessions  = 10_000
)

var sessionCases = []benchCase{
	{name: "session-none", section: sectionSessions, title: "Small replies, 64 connections, 1000 clients with cookies, no persistence",
		load: sessionLoad(64, knownSessions, false), of: sessionServers("", "", "")},
	{name: "session-cookie", section: sectionSessions, title: "The same with cookie persistence (belay: a sealed token; HAProxy: the server's name)",
		load: sessionLoad(64, knownSessions, true), of: sessionServers(belayCookie, "", haproxyCookie)},
	{name: "session-cookie-many", section: sectionSessions, title: "The same, 10 000 clients, more than a worker remembers the tokens of",
		load: sessionLoad(64, manySessions, true), of: sessionServers(belayCookie, "", haproxyCookie)},
	{name: "session-table", section: sectionSessions, title: "A stick table by the application's cookie, 10 000 clients",
		load: sessionLoad(64, manySessions, false), of: sessionServers(belayTable, "", haproxyTable)},
	{name: "session-hash", section: sectionSessions, title: "A consistent hash of the application's cookie, 10 000 clients",
		load: sessionLoad(64, manySessions, false), of: sessionServers(belayHash, nginxHash, haproxyHash)},
}

const (
	belayCookie   = "persistence.cookie = { name = \"SRV\" }\n"
	belayTable    = "persistence.table = { name = \"app\", key = [{ cookie = \"SID\" }] }\n[table.app]\nsize = 1000000\n"
	belayHash     = "balance = \"maglev\"\nhash.on = [{ cookie = \"SID\" }]\n"
	nginxHash     = "hash $cookie_SID consistent; "
	haproxyCookie = "  cookie SRV insert indirect nocache\n"
	haproxyTable  = "  stick-table type string len 32 size 1m expire 30m\n  stick on req.cook(SID)\n"
	haproxyHash   = "  balance hash req.cook(SID)\n  hash-type consistent\n"
)

// sessionServers are the measured programs before two endpoints, with more in their
// cluster. nginx is left out where it has nothing of the kind.
func sessionServers(belay, nginx, haproxy string) func(*lab) ([]server, error) {
	return func(l *lab) ([]server, error) {
		const (
			belayOne   = `endpoints = [{ id = "a", address = "127.0.0.1:%[4]d" }]` + "\n"
			belayTwo   = `endpoints = [{ id = "a", address = "127.0.0.1:%[4]d" }, { id = "b", address = "127.0.0.2:%[4]d" }]` + "\n"
			nginxOne   = `server 127.0.0.1:%[4]d; `
			haproxyOne = "  server a 127.0.0.1:%[4]d pool-max-conn -1\n"
			haproxyTwo = "  server a 127.0.0.1:%[4]d pool-max-conn -1 cookie a\n  server b 127.0.0.2:%[4]d pool-max-conn -1 cookie b\n"
		)
		sink := "[cluster.sink]" // a table's own keys go before the next table
		belayText := strings.Replace(strings.Replace(belayConf, belayOne, belayTwo, 1), sink, belay+sink, 1)
		nginxText := strings.Replace(nginxConf, nginxOne, nginx+nginxOne+`server 127.0.0.2:%[4]d; `, 1)
		if haproxy == "" {
			haproxyTwo := strings.NewReplacer(" cookie a", "", " cookie b", "").Replace(haproxyTwo)
			return l.httpServers(belayText, nginxText, strings.Replace(haproxyConf, haproxyOne, haproxyTwo, 1)), nil
		}
		servers := l.httpServers(belayText, nginxText, strings.Replace(haproxyConf, haproxyOne, haproxy+haproxyTwo, 1))
		if nginx == "" {
			servers = append(servers[:1:1], servers[2])
		}
		return servers, nil
	}
}

// sessionScript has wrk send the requests of many clients in turn.
const sessionScript = `
local list, n = {}, 0
init = function()
  for line in io.lines(%q) do
    list[#list + 1] = wrk.format("GET", "/small", { Cookie = line })
  end
end
request = function()
  n = n %% #list + 1
  return list[n]
end
`

// sessionLoad is a closed loop of clients that each have the cookies of their session:
// the application's, and the proxy's if it gives one.
func sessionLoad(conns, clients int, given bool) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		file := filepath.Join(l.dir, "cookies")
		if err := writeCookies(file, url+"/small", clients, given); err != nil {
			return sample{}, err
		}
		return wrkLoad(conns, "/small", fmt.Sprintf(sessionScript, file))(l, url)
	}
}

func writeCookies(file, url string, clients int, given bool) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for range clients {
		cookies := fmt.Sprintf("_ga=GA1.2.1234567890.1234567890; SID=%016x%016x", rand.Uint64(), rand.Uint64())
		if given {
			c, err := firstCookie(url, cookies)
			if err != nil {
				return err
			}
			cookies += "; " + c
		}
		if _, err := fmt.Fprintln(w, cookies+"; theme=dark"); err != nil {
			return err
		}
	}
	return w.Flush()
}

// firstCookie is what a proxy gives a new client.
func firstCookie(url, cookies string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Cookie", cookies)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	for _, c := range resp.Cookies() {
		return c.Name + "=" + c.Value, nil
	}
	return "", fmt.Errorf("%s gave no cookie", url)
}
