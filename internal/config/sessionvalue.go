package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// cookieName is RFC 6265bis, 4.1.1.
type cookieName string

func (n *cookieName) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if !isToken(s) {
		return fmt.Errorf("%q is not the name of a cookie", s)
	}
	*n = cookieName(s)
	return nil
}

// cookiePath is the Path of a cookie.
type cookiePath string

func (p *cookiePath) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q does not begin with /", s)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ';' {
			return fmt.Errorf("%q has a %q, which no cookie's path can have", s, c)
		}
	}
	*p = cookiePath(s)
	return nil
}

// urlPathQuery is a path as it stands in a request, with a query if there is one.
type urlPathQuery string

func (p *urlPathQuery) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	before, after, _ := strings.Cut(s, "?")
	var path urlPath
	if err := path.set(before); err != nil {
		return err
	}
	for i := range len(after) {
		if c := after[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return fmt.Errorf("%q has bytes that a request must escape: write them as %%XX", s)
		}
	}
	*p = urlPathQuery(s)
	return nil
}

// statusRange is 200, "200" or "200-399".
type statusRange StatusRange

func (r *statusRange) set(v any) error {
	if n, ok := v.(int64); ok {
		v = strconv.FormatInt(n, 10)
	}
	s, err := text(v)
	if err != nil {
		return err
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		to = from
	}
	a, err1 := strconv.Atoi(from)
	b, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || a < 100 || b > 599 || a > b {
		return fmt.Errorf(`%q is neither a status nor a range such as "200-399"`, s)
	}
	r.From, r.To = a, b
	return nil
}

// autoTime is a duration, or "auto", which is 0.
type autoTime time.Duration

func (d *autoTime) set(v any) error {
	if s, ok := v.(string); ok && s == "auto" {
		*d = 0
		return nil
	}
	var x duration
	if err := x.set(v); err != nil {
		return fmt.Errorf(`%w, or "auto"`, err)
	}
	if x < duration(time.Minute) || x > duration(87600*time.Hour) {
		return fmt.Errorf("must be from 1m to 87600h, not %s", time.Duration(x))
	}
	*d = autoTime(x)
	return nil
}

// storeURL is where tables are shared.
type storeURL string

func (u *storeURL) set(v any) error {
	const example = `an address such as "redis://127.0.0.1:6379/0"`
	s, err := text(v)
	if err != nil {
		return err
	}
	x, err := url.Parse(s)
	if err != nil {
		return errors.New("is not " + example) // the library's error shows a password
	}
	if x.Scheme != "redis" && x.Scheme != "rediss" || x.Hostname() == "" || x.Fragment != "" {
		return errors.New("is not " + example)
	}
	*u = storeURL(s)
	return nil
}
