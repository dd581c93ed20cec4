package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (b *builder) buildRoute(raw *rawRoute, at *path, l *Listener, index int) *Route {
	r := defaultRoute(index)
	r.Name = fmt.Sprintf("%s.%d", l.Name, index)
	if raw.Name != nil {
		r.Name = *raw.Name
		if !isLabel(r.Name) {
			b.add(at.child("name"), "%q: a name has 1 to %d bytes of visible ASCII, without quotes and \"\\\"", r.Name, maxLabel)
		}
	}
	b.matches(r, raw, at)
	b.action(r, raw, at)
	r.Allow, r.Deny = prefixes(raw.Allow), prefixes(raw.Deny)
	putText(&r.HostRewrite, raw.HostRewrite)
	r.PathRewrite = b.pathRewrite(raw, at)
	r.RequestHeaders = b.headerOps(&raw.RequestHeaders, at.child("request_headers"), ownRequest)
	r.ResponseHeaders = b.headerOps(&raw.ResponseHeaders, at.child("response_headers"), nil)
	putBool(&r.Upgrade, raw.Upgrade)
	put(&r.RequestTimeout, raw.RequestTimeout)
	put(&r.FirstByteTimeout, raw.FirstByteTimeout)
	put(&r.MaxBody, raw.MaxBody)
	if raw.Persistence != nil {
		r.Persistence = b.buildPersistence(raw.Persistence, at.child("persistence"))
	}
	if raw.Retry != nil {
		r.Retry = b.retry(raw.Retry, at.child("retry"))
	}
	return r
}

// matches is what a request must be like.
func (b *builder) matches(r *Route, raw *rawRoute, at *path) {
	if raw.Hosts != nil && len(raw.Hosts) == 0 {
		b.missing(at, "hosts", "is empty; leave it out to match every host")
	}
	for _, h := range raw.Hosts {
		r.Hosts = append(r.Hosts, string(h))
	}
	b.exclusive(at, []string{"path", "path_prefix", "path_regex"}, raw.Path != nil, raw.PathPrefix != nil, raw.PathRegex != nil)
	putText(&r.Path, raw.Path)
	putText(&r.PathPrefix, raw.PathPrefix)
	r.PathRegex = raw.PathRegex.anchored()
	if raw.Methods != nil && len(raw.Methods) == 0 {
		b.missing(at, "methods", "is empty; leave it out to match every method")
	}
	for _, m := range raw.Methods {
		r.Methods = append(r.Methods, string(m))
	}
	for i := range raw.Headers {
		r.Headers = append(r.Headers, b.headerMatch(&raw.Headers[i], at.child("headers").at(i)))
	}
}

func (b *builder) headerMatch(raw *rawHeaderMatch, at *path) HeaderMatch {
	var m HeaderMatch
	putText(&m.Name, raw.Name)
	putText(&m.Exact, raw.Exact)
	m.Regex = raw.Regex.anchored()
	putBool(&m.Present, raw.Present)
	putBool(&m.Invert, raw.Invert)
	if raw.Name == nil {
		b.missing(at, "name", "is missing")
	}
	if b.exclusive(at, []string{"exact", "regex", "present"}, raw.Exact != nil, raw.Regex != nil, raw.Present != nil) == 0 {
		b.add(at, "needs one of exact, regex or present")
	}
	if raw.Present != nil && !*raw.Present {
		b.add(at.child("present"), "false matches nothing; write present = true, invert = true")
	}
	return m
}

// action is what is done with a request.
func (b *builder) action(r *Route, raw *rawRoute, at *path) {
	keys := []string{"cluster", "clusters", "respond", "redirect"}
	if b.exclusive(at, keys, raw.Cluster != nil, raw.Clusters != nil, raw.Respond != nil, raw.Redirect != nil) == 0 {
		b.add(at, "needs one of cluster, clusters, respond or redirect")
	}
	if raw.Cluster != nil {
		b.known(at.child("cluster"), *raw.Cluster)
		r.Clusters = []WeightedCluster{{Cluster: *raw.Cluster, Weight: defaultWeight}}
	}
	if raw.Clusters != nil {
		r.Clusters = b.weighted(raw.Clusters, at.child("clusters"))
	}
	if raw.Respond != nil {
		r.Respond = b.respond(raw.Respond, at.child("respond"))
	}
	if raw.Redirect != nil {
		r.Redirect = b.redirect(raw, at.child("redirect"))
	}
	if (raw.Respond != nil || raw.Redirect != nil) && r.Clusters == nil {
		b.noUpstream(raw, at)
	}
}

// noUpstream reports keys that could have no effect.
func (b *builder) noUpstream(raw *rawRoute, at *path) {
	h := &raw.RequestHeaders
	for key, given := range map[string]bool{
		"host_rewrite":       raw.HostRewrite != nil,
		"path_rewrite":       raw.PathRewrite != nil,
		"request_headers":    h.Remove != nil || h.Set != nil || h.Add != nil,
		"retry":              raw.Retry != nil,
		"first_byte_timeout": raw.FirstByteTimeout != nil,
		"upgrade":            raw.Upgrade != nil,
		"persistence":        raw.Persistence != nil,
	} {
		if given {
			b.add(at.child(key), "needs a cluster: this route answers by itself")
		}
	}
}

// known reports a cluster that no file defines.
func (b *builder) known(at *path, name string) {
	if _, ok := slices.BinarySearch(b.names, name); !ok && !b.partial {
		b.add(at, "no cluster %q%s", name, hint(name, b.names))
	}
}

func (b *builder) weighted(raw []rawWeighted, at *path) []WeightedCluster {
	var list []WeightedCluster
	total := 0
	first := make(map[string]int)
	for i := range raw {
		w := WeightedCluster{Weight: defaultWeight}
		put(&w.Weight, raw[i].Weight)
		total += w.Weight
		if raw[i].Cluster == nil {
			b.missing(at.at(i), "cluster", "is missing")
			continue
		}
		putText(&w.Cluster, raw[i].Cluster)
		b.known(at.at(i).child("cluster"), w.Cluster)
		if j, ok := first[w.Cluster]; ok {
			b.add(at.at(i).child("cluster"), "%q is clusters[%d] as well", w.Cluster, j)
		}
		first[w.Cluster] = i
		list = append(list, w)
	}
	switch {
	case len(raw) == 0 && !b.has(at):
		b.add(at, "is empty")
	case len(list) == len(raw) && total == 0:
		b.add(at, "all weights are 0")
	}
	return list
}

func (b *builder) respond(raw *rawRespond, at *path) *Respond {
	r := &Respond{Status: defaultRespondStatus}
	put(&r.Status, raw.Status)
	putText(&r.Body, raw.Body)
	if r.Body != "" && (r.Status == 204 || r.Status == 205 || r.Status == 304) {
		b.add(at.child("body"), "a reply with status %d has no body", r.Status)
	}
	contentType := ""
	if r.Body != "" {
		contentType = defaultContentType
	}
	headers := at.child("headers")
	for _, n := range names(b, headers, raw.Headers, ownRespond) {
		if strings.EqualFold(n, "content-type") {
			contentType = ""
			if raw.ContentType != nil {
				b.add(headers.child(n), "excludes content_type")
			}
		}
		r.Headers = append(r.Headers, [2]string{n, string(raw.Headers[n])})
	}
	putText(&contentType, raw.ContentType)
	if contentType != "" {
		r.Headers = slices.Insert(r.Headers, 0, [2]string{"Content-Type", contentType})
	}
	return r
}

func (b *builder) redirect(route *rawRoute, at *path) *Redirect {
	raw, r := route.Redirect, &Redirect{Status: defaultRedirectStatus}
	put(&r.Status, raw.Status)
	putText(&r.Scheme, raw.Scheme)
	putText(&r.Host, raw.Host)
	putText(&r.Path, raw.Path)
	putText(&r.PathPrefix, raw.PathPrefix)
	putBool(&r.StripQuery, raw.StripQuery)
	if raw.Port != nil {
		r.Port = strconv.Itoa(*raw.Port)
	}
	if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Status) {
		b.add(at.child("status"), "must be 301, 302, 303, 307 or 308, not %d", r.Status)
	}
	b.exclusive(at, []string{"path", "path_prefix"}, raw.Path != nil, raw.PathPrefix != nil)
	if raw.PathPrefix != nil && route.PathPrefix == nil {
		b.missing(at.up, "path_prefix", "is missing; redirect.path_prefix replaces it")
	}
	if r.Scheme+r.Host+r.Port+r.Path+r.PathPrefix == "" && !b.hasAny(at, "scheme", "host", "port", "path", "path_prefix") {
		b.add(at, "needs one of scheme, host, port, path or path_prefix: it would lead to itself")
	}
	return r
}

// hasAny tells whether one of the keys was refused.
func (b *builder) hasAny(at *path, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return b.has(at.child(k)) })
}

func (b *builder) pathRewrite(route *rawRoute, at *path) *PathRewrite {
	raw := route.PathRewrite
	if raw == nil {
		return nil
	}
	table := at.child("path_rewrite")
	r := &PathRewrite{}
	if b.exclusive(table, []string{"prefix", "regex"}, raw.Prefix != nil, raw.Regex != nil) == 0 {
		b.add(table, "needs prefix, or regex and replace")
	}
	if raw.Prefix != nil {
		s := string(*raw.Prefix)
		r.Prefix = &s
		if route.PathPrefix == nil {
			b.missing(at, "path_prefix", "is missing; path_rewrite.prefix replaces it")
		}
	}
	putText(&r.Replace, raw.Replace)
	switch {
	case raw.Regex != nil && raw.Replace == nil:
		b.missing(table, "replace", "is missing")
	case raw.Regex != nil:
		r.Regex = raw.Regex.re
		b.check(table.child("replace"), checkReplace(r.Replace, r.Regex))
	case raw.Replace != nil && !b.has(table.child("regex")):
		b.add(table.child("replace"), "needs regex")
	}
	return r
}

// checkReplace finds references to groups that are not there. The usual trap
// is $1x, which Go reads as the group "1x" and replaces by nothing.
func checkReplace(s string, re *regexp.Regexp) error {
	for {
		_, rest, ok := strings.Cut(s, "$")
		if !ok {
			return nil
		}
		if rest, ok = strings.CutPrefix(rest, "$"); ok {
			s = rest
			continue
		}
		name, braced := strings.CutPrefix(rest, "{")
		end := strings.IndexFunc(name, func(c rune) bool { return c > 0x7f || c == '-' || !isBareKey(byte(c)) })
		if end < 0 {
			end = len(name)
		}
		s = name[end:]
		name = name[:end]
		if braced && !strings.HasPrefix(s, "}") {
			return fmt.Errorf("%q has no closing brace", "${"+name)
		}
		n, err := strconv.Atoi(name)
		if err == nil && n <= re.NumSubexp() || err != nil && name != "" && slices.Contains(re.SubexpNames(), name) {
			continue
		}
		return fmt.Errorf(`"$%s" is no group of the regex; a group before other letters is written "${1}", a dollar "$$"`, name)
	}
}

func (b *builder) retry(raw *rawRetry, at *path) Retry {
	r := defaultRetry()
	for _, on := range raw.On {
		r.On |= RetryOn(on)
	}
	if len(raw.On) > 0 {
		r.Attempts = 1
	} else {
		b.missing(at, "on", "is missing: nothing would be retried")
	}
	put(&r.Attempts, raw.Attempts)
	r.Statuses = raw.Statuses
	switch hasOn := r.On&RetryStatus != 0; {
	case hasOn && len(raw.Statuses) == 0:
		b.missing(at, "statuses", `is missing; "status" retries those`)
	case !hasOn && len(raw.Statuses) > 0:
		b.add(at.child("statuses"), `needs "status" in on`)
	}
	if raw.Budget != nil {
		r.Budget = *raw.Budget
	}
	put(&r.BudgetMin, raw.BudgetMin)
	put(&r.Backoff, raw.Backoff)
	put(&r.BackoffMax, raw.BackoffMax)
	if r.Backoff > r.BackoffMax {
		key := "backoff"
		if raw.Backoff == nil {
			key = "backoff_max"
		}
		b.add(at.child(key), "backoff (%s) is longer than backoff_max (%s)", r.Backoff, r.BackoffMax)
	}
	return r
}
