package config

import (
	"net"
	"strings"
	"time"
)

func (b *builder) buildKeys(cfg *Config) {
	raw, at := &b.keys.raw, b.keys.at
	k := &cfg.Keys
	*k = defaultKeys()
	k.Keyring = raw.Keyring.secret()
	putText(&k.Directory, raw.Directory)
	if raw.Directory != nil && !strings.HasPrefix(k.Directory, "/") {
		b.add(at.child("directory"), "%q is not an absolute path", k.Directory)
	}
	put(&k.Rotation, raw.Rotation)
	if raw.Keep != nil {
		k.Keep = time.Duration(*raw.Keep)
	}
	put(&k.Skew, raw.Skew)
	k.Overlap = max(k.Overlap, cfg.HotRestart.ShutdownTime)
	if raw.Overlap != nil {
		if k.Overlap = time.Duration(*raw.Overlap); k.Overlap < cfg.HotRestart.ShutdownTime {
			b.add(at.child("overlap"), "(%s) is shorter than hot_restart.shutdown_time (%s): a draining process would not know the key that its successor mints with", k.Overlap, cfg.HotRestart.ShutdownTime)
		}
	}
	if raw.Keyring != nil {
		for key, given := range map[string]bool{"directory": raw.Directory != nil, "rotation": raw.Rotation != nil, "overlap": raw.Overlap != nil, "keep": raw.Keep != nil} {
			if given {
				b.add(at.child(key), "has no meaning with keyring: whoever writes that file rotates its keys")
			}
		}
	}
}

func (b *builder) buildTable(t *table[rawStickTable]) *Table {
	raw, at, x := &t.raw, t.at, defaultTable(t.name)
	put(&x.Size, raw.Size)
	put(&x.Expire, raw.Expire)
	putText(&x.Store, raw.Store)
	put(&x.StoreTimeout, raw.StoreTimeout)
	putText(&x.StorePrefix, raw.StorePrefix)
	put(&x.StoreQueue, raw.StoreQueue)
	if x.Expire%time.Second != 0 {
		b.add(at.child("expire"), "%s is not a number of whole seconds", x.Expire)
	}
	if raw.Store == nil {
		for key, given := range map[string]bool{"store_timeout": raw.StoreTimeout != nil, "store_prefix": raw.StorePrefix != nil, "store_queue": raw.StoreQueue != nil} {
			if given && !b.has(at.child("store")) {
				b.add(at.child(key), "needs store")
			}
		}
	}
	return x
}

// buildPersistence is that of a cluster, or of a route.
func (b *builder) buildPersistence(raw *rawPersistence, at *path) *Persistence {
	p := defaultPersistence()
	if raw.Enabled != nil {
		p.Off = !*raw.Enabled
	}
	putText(&p.Policy, raw.Policy)
	putText(&p.Unknown, raw.Unknown)
	put(&p.StrictStatus, raw.StrictStatus)
	put(&p.RetryAfter, raw.RetryAfter)
	put(&p.Grace, raw.Grace)
	putText(&p.Full, raw.Full)
	put(&p.Window, raw.Window)
	putText(&p.DebugHeader, raw.DebugHeader)
	if p.Window%time.Second != 0 {
		b.add(at.child("first_request_window"), "%s is not a number of whole seconds", p.Window)
	}
	modes := raw.Cookie != nil || raw.Header != nil || raw.Table != nil
	if !p.Off && !modes && !b.hasAny(at, "cookie", "header", "table") {
		b.add(at, "needs one of cookie, header or table")
	}
	b.strictOnly(p, raw, at)
	if raw.DebugHeader != nil {
		b.debugHeader(p.DebugHeader, raw, at.child("debug_header"))
	}
	if raw.Cookie != nil {
		p.Cookie = b.cookiePersistence(raw.Cookie, at.child("cookie"))
	}
	if raw.Header != nil {
		p.Header = b.headerPersistence(raw.Header, at.child("header"))
	}
	if raw.Table != nil {
		p.Table = b.tablePersistence(raw.Table, at.child("table"))
		b.learnConflict(p, at.child("table").child("learn"))
	}
	return p
}

// learnConflict reports a value that a table would learn although another mode
// changes it on its way to the client, who would then return something else.
func (b *builder) learnConflict(p *Persistence, at *path) {
	l := p.Table.Learn
	if l == nil {
		return
	}
	if p.Cookie != nil && l.Cookie != "" && l.Cookie == p.Cookie.Name {
		b.add(at.child("cookie"), "%q is already the cookie of persistence.cookie", l.Cookie)
	}
	if p.Header != nil && l.Header != "" && strings.EqualFold(l.Header, p.Header.Name) {
		b.add(at.child("header"), "%q is already the header of persistence.header", l.Header)
	}
}

// debugHeader reports a name whose field in a reply has a meaning of its own.
func (b *builder) debugHeader(name string, raw *rawPersistence, at *path) {
	switch {
	case ownField(name, ownRespond) != nil || framing[strings.ToLower(name)]:
		b.add(at, "%q is a field that HTTP or belay itself needs", name)
	case raw.Header != nil && raw.Header.Name != nil && strings.EqualFold(string(*raw.Header.Name), name):
		b.add(at, "%q is the header that carries the session", name)
	}
}

// strictOnly reports keys that the policy has no use for.
func (b *builder) strictOnly(p *Persistence, raw *rawPersistence, at *path) {
	strict := p.Policy == "strict" || p.Unknown == "strict"
	if raw.StrictStatus != nil && !strict {
		b.add(at.child("strict_status"), `needs policy = "strict" or unknown = "strict"`)
	}
	if raw.RetryAfter != nil && !strict {
		b.add(at.child("retry_after"), `needs policy = "strict" or unknown = "strict"`)
	}
	if p.Unknown == "strict" && raw.Cookie == nil && raw.Header == nil {
		b.add(at.child("unknown"), `"strict" needs cookie or header: what a table has of such endpoints is no claim of the client`)
	}
	if raw.Grace != nil && p.Policy != "detour" {
		b.add(at.child("grace"), `needs policy = "detour"`)
	}
}

func (b *builder) cookiePersistence(raw *rawCookiePersistence, at *path) *CookiePersistence {
	c := defaultCookiePersistence()
	putText(&c.Mode, raw.Mode)
	putText(&c.Name, raw.Name)
	if raw.Name == nil {
		b.missing(at, "name", `is missing; write for example name = "belay"`)
	}
	putText(&c.Path, raw.Path)
	putText(&c.Domain, raw.Domain)
	putText(&c.SameSite, raw.SameSite)
	putText(&c.Secure, raw.Secure)
	putBool(&c.HTTPOnly, raw.HTTPOnly)
	putBool(&c.Partitioned, raw.Partitioned)
	put(&c.MaxIdle, raw.MaxIdle)
	put(&c.MaxAge, raw.MaxAge)
	putBool(&c.Keep, raw.Keep)
	putBool(&c.Hide, raw.Hide)
	putBool(&c.Preserve, raw.Preserve)
	putBool(&c.PostOnly, raw.PostOnly)
	putBool(&c.NoCache, raw.NoCache)
	b.lifetimes(c.MaxIdle, c.MaxAge, raw.MaxIdle != nil, at)
	if c.Keep && c.MaxIdle == 0 && c.MaxAge == 0 {
		b.add(at.child("keep_over_end"), "needs max_idle or max_age: the browser is told how long")
	}
	if c.Mode != "insert" {
		b.applicationsCookie(c, raw, at)
		return c
	}
	b.cookieAttributes(c, raw, at)
	return c
}

// applicationsCookie reports keys that only belay's own cookie has.
func (b *builder) applicationsCookie(c *CookiePersistence, raw *rawCookiePersistence, at *path) {
	for key, given := range map[string]bool{
		"path": raw.Path != nil, "domain": raw.Domain != nil, "same_site": raw.SameSite != nil, "secure": raw.Secure != nil,
		"http_only": raw.HTTPOnly != nil, "partitioned": raw.Partitioned != nil, "max_idle": raw.MaxIdle != nil, "keep_over_end": raw.Keep != nil,
		"hide_from_upstream": raw.Hide != nil, "preserve": raw.Preserve != nil, "post_only": raw.PostOnly != nil, "no_cache": raw.NoCache != nil,
	} {
		if given {
			b.add(at.child(key), `is only for mode = "insert": the cookie is the application's`)
		}
	}
	c.MaxIdle = 0 // only the application can have its cookie sent again
}

// cookieAttributes reports what a browser would refuse (RFC 6265bis, 5.7).
func (b *builder) cookieAttributes(c *CookiePersistence, raw *rawCookiePersistence, at *path) {
	lower := strings.ToLower(c.Name)
	hostOnly := strings.HasPrefix(lower, "__host-")
	httpOnly := strings.HasPrefix(lower, "__http-") || strings.HasPrefix(lower, "__host-http-")
	for _, rule := range []struct {
		broken bool
		key    string
		text   string
	}{
		{hostOnly && raw.Path != nil && c.Path != "/", "path", `must be "/": the name begins with __Host-`},
		{hostOnly && c.Domain != "", "domain", "must be left out: the name begins with __Host-"},
		{(hostOnly || httpOnly || strings.HasPrefix(lower, "__secure-")) && c.Secure != "always", "secure", `must be "always": browsers refuse this name without`},
		{httpOnly && !c.HTTPOnly, "http_only", "must be true: browsers refuse this name without"},
		{len(c.Name) > maxCookieName, "name", "is longer than 128 characters"},
		{len(c.Path) > maxCookiePath, "path", "is longer than 1024 characters"},
		{strings.Contains(c.Domain, "_") || net.ParseIP(c.Domain) != nil, "domain", "is not the name of a domain: browsers would refuse it"},
		{c.SameSite == "none" && c.Secure != "always", "secure", `must be "always": browsers refuse same_site = "none" without`},
		{c.Partitioned && c.Secure != "always", "secure", `must be "always": browsers refuse partitioned without`},
	} {
		if rule.broken {
			b.missing(at, rule.key, "%s", rule.text)
		}
	}
}

// What persistence.Cookie takes; browsers drop longer ones (RFC 6265bis, 5.6).
const (
	maxCookieName = 128
	maxCookiePath = 1024
)

// mintedCookie reports what would keep a cookie from being made for cluster.hash.
func (b *builder) mintedCookie(h *HashOn, at *path) {
	switch {
	case len(h.Cookie) > maxCookieName:
		b.add(at.child("cookie"), "is longer than 128 characters")
	case strings.HasPrefix(strings.ToLower(h.Cookie), "__host-"), strings.HasPrefix(strings.ToLower(h.Cookie), "__http-"), strings.HasPrefix(strings.ToLower(h.Cookie), "__secure-"):
		b.add(at.child("cookie"), "%q cannot be made with ttl: browsers want a cookie of this name to be secure, which this one is not", h.Cookie)
	}
	if len(h.Path) > maxCookiePath {
		b.add(at.child("path"), "is longer than 1024 characters")
	}
}

// minLifetime is the shortest that seconds can tell anything of.
const minLifetime = 2 * time.Second

// lifetimes checks max_idle and max_age.
func (b *builder) lifetimes(idle, age time.Duration, given bool, at *path) {
	if idle > 0 && idle < minLifetime {
		b.add(at.child("max_idle"), "must be 0s or at least %s, not %s", minLifetime, idle)
	}
	if age > 0 && age < minLifetime {
		b.add(at.child("max_age"), "must be 0s or at least %s, not %s", minLifetime, age)
	}
	if given && age > 0 && idle > age {
		b.add(at.child("max_idle"), "(%s) is longer than max_age (%s)", idle, age)
	}
}

func (b *builder) headerPersistence(raw *rawHeaderPersistence, at *path) *HeaderPersistence {
	h := defaultHeaderPersistence()
	putText(&h.Name, raw.Name)
	if raw.Name == nil {
		b.missing(at, "name", `is missing; write for example name = "X-Session"`)
	} else if err := ownField(h.Name, ownRequest); err != nil || framing[strings.ToLower(h.Name)] {
		b.add(at.child("name"), "%q is a field that HTTP or belay itself needs", h.Name)
	}
	putText(&h.Mode, raw.Mode)
	put(&h.MaxIdle, raw.MaxIdle)
	put(&h.MaxAge, raw.MaxAge)
	putBool(&h.Hide, raw.Hide)
	b.lifetimes(h.MaxIdle, h.MaxAge, raw.MaxIdle != nil, at)
	if h.Mode == "envelope" {
		if raw.Hide != nil {
			b.add(at.child("hide_from_upstream"), `is only for mode = "token": the endpoint gets its own value back`)
		}
		if raw.MaxIdle != nil {
			b.add(at.child("max_idle"), `is only for mode = "token": the header is the endpoint's`)
		}
		h.MaxIdle = 0 // only the endpoint can send its header again
	}
	return h
}

// framing are the fields whose values say what a message is, or who may read it.
var framing = map[string]bool{
	"cookie": true, "set-cookie": true, "authorization": true, "content-type": true, "content-encoding": true, "cache-control": true,
	"location": true, "date": true, "vary": true, "etag": true,
}

func (b *builder) tablePersistence(raw *rawTablePersistence, at *path) *TablePersistence {
	t := &TablePersistence{Track: true}
	putText(&t.Name, raw.Name)
	if raw.Name == nil {
		b.missing(at, "name", "is missing: of a table.NAME")
	} else if !b.partial && !b.tableNames[t.Name] {
		b.add(at.child("name"), "no table %q%s", t.Name, hint(t.Name, b.tableList()))
	}
	putBool(&t.Track, raw.Track)
	list := at.child("key")
	for i := range raw.Key {
		k := &raw.Key[i]
		t.Key = append(t.Key, b.hashOn(&rawHashOn{Header: k.Header, Cookie: k.Cookie, Query: k.Query, Source: k.Source, SNI: k.SNI}, list.at(i)))
	}
	if len(raw.Key) == 0 {
		b.missing(at, "key", "is missing; write for example key = [{ source = true }]")
	}
	if l := raw.Learn; l != nil {
		here := at.child("learn")
		if b.exclusive(here, []string{"cookie", "header"}, l.Cookie != nil, l.Header != nil) == 0 {
			b.add(here, "needs one of cookie or header")
		}
		t.Learn = &HashOn{}
		putText(&t.Learn.Cookie, l.Cookie)
		putText(&t.Learn.Header, l.Header)
	}
	return t
}

func (b *builder) hashOn(raw *rawHashOn, at *path) HashOn {
	var h HashOn
	putText(&h.Header, raw.Header)
	putText(&h.Cookie, raw.Cookie)
	putText(&h.Query, raw.Query)
	putBool(&h.Source, raw.Source)
	putBool(&h.SNI, raw.SNI)
	putBool(&h.Terminal, raw.Terminal)
	put(&h.TTL, raw.TTL)
	putText(&h.Path, raw.Path)
	h.Mint = raw.TTL != nil
	keys := []string{"header", "cookie", "query", "source", "sni"}
	if b.exclusive(at, keys, raw.Header != nil, raw.Cookie != nil, raw.Query != nil, raw.Source != nil, raw.SNI != nil) == 0 {
		b.add(at, "needs one of header, cookie, query, source or sni")
	}
	for key, v := range map[string]*bool{"source": raw.Source, "sni": raw.SNI} {
		if v != nil && !*v {
			b.add(at.child(key), "false means nothing; leave it out")
		}
	}
	if raw.Query != nil && (h.Query == "" || strings.ContainsAny(h.Query, "&=#? ")) {
		b.add(at.child("query"), "%q is not the name of a parameter", h.Query)
	}
	if raw.TTL != nil && raw.Cookie == nil {
		b.add(at.child("ttl"), "needs cookie")
	}
	if h.Mint && h.Cookie != "" {
		b.mintedCookie(&h, at)
	}
	if raw.Path != nil && raw.TTL == nil {
		b.add(at.child("path"), "needs ttl: without it no cookie is made")
	}
	return h
}

// tableList are the names of all tables.
func (b *builder) tableList() (list []string) {
	for _, t := range b.tables {
		list = append(list, t.name)
	}
	return list
}
