package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// text returns v if it is a string.
func text(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("must be a string, not %s", kind(v))
	}
	return s, nil
}

// duration is a string as time.ParseDuration reads it.
type duration time.Duration

func (d *duration) set(v any) error {
	const example = `a duration such as "250ms", "30s" or "1h30m"`
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("must be %s, not %s", example, kind(v))
	}
	x, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not %s", s, example)
	}
	*d = duration(x)
	return nil
}

// size is a number of bytes, or a string with a unit.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

func (z *size) set(v any) error {
	const example = `a size such as 4096, "64KiB" or "1MB"`
	if n, ok := v.(int64); ok {
		*z = size(n)
		return nil
	}
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("must be %s, not %s", example, kind(v))
	}
	number, factor := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, factor = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(strings.TrimRight(number, " "), 10, 63)
	if err != nil || n > math.MaxInt64/uint64(factor) {
		return fmt.Errorf("%q is not %s", s, example)
	}
	*z = size(int64(n) * factor)
	return nil
}

// fileMode is octal digits in a string: TOML would read 0660 as an error and
// 660 as a decimal number.
type fileMode uint32

func (m *fileMode) set(v any) error {
	s, ok := v.(string)
	n, err := strconv.ParseUint(s, 8, 32)
	if !ok || err != nil || n > 0o777 {
		return errors.New(`must be a file mode as a string of octal digits, such as "0660"`)
	}
	*m = fileMode(n)
	return nil
}

// pattern is an RE2 expression as it was written. Where it must match from end
// to end, anchored makes another.
type pattern struct {
	source string
	re     *regexp.Regexp
}

func (p *pattern) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	re, err := regexp.Compile(s)
	var se *syntax.Error
	if errors.As(err, &se) {
		return fmt.Errorf("%q is not a regular expression: %s: %q", s, se.Code, se.Expr)
	}
	if err != nil {
		return fmt.Errorf("%q is not a regular expression: %w", s, err)
	}
	p.source, p.re = s, re
	return nil
}

// anchored compiles a valid pattern so that it must match all of its input.
func (p *pattern) anchored() *regexp.Regexp {
	if p == nil {
		return nil
	}
	return regexp.MustCompile(`\A(?:` + p.source + `)\z`)
}

// method is a request method. They are case-sensitive; none that belay knows
// is written in lower case.
type method string

func (m *method) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	upper := strings.ToUpper(s)
	switch {
	case !isToken(s):
		return fmt.Errorf("%q is not a method", s)
	case upper == "CONNECT" || upper == "TRACE":
		return fmt.Errorf("%s never reaches a route: belay refuses it", upper)
	case s != upper && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}, upper):
		return fmt.Errorf("methods are case-sensitive: write %q", upper)
	}
	*m = method(s)
	return nil
}

// urlPath is a path as it stands in a request.
type urlPath string

func (p *urlPath) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q does not begin with /", s)
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '?' || c == '#':
			return fmt.Errorf("%q has a %q: only the path belongs here", s, c)
		case c <= ' ' || c >= 0x7f:
			return fmt.Errorf("%q has bytes that a request must escape: write them as %%XX", s)
		}
	}
	*p = urlPath(s)
	return nil
}

// retryOn is one element of retry.on.
type retryOn RetryOn

var retryNames = []struct {
	name string
	on   RetryOn
}{
	{"connect-failure", RetryConnectFailure}, {"reset", RetryReset}, {"5xx", Retry5xx},
	{"status", RetryStatus}, {"first-byte-timeout", RetryFirstByte},
}

func (r *retryOn) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	var names []string
	for _, n := range retryNames {
		if n.name == s {
			*r = retryOn(n.on)
			return nil
		}
		names = append(names, strconv.Quote(n.name))
	}
	return fmt.Errorf("must be %s, not %q", orList(names), s)
}
