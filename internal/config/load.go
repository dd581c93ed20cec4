package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Load reads a file and then conf.d/*.toml beside it in lexical order; names
// that begin with a dot are passed over. The error is a *Problems that has
// everything found in all of the files. Files are named as path names them.
// Load looks at $WATCHDOG_USEC too: what systemd's watchdog forbids is a problem.
func Load(path string) (*Config, error) {
	l := newLoader()
	l.watchdog = watchdogInterval()
	l.read(path)
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.unreadable(l.source(dir), err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && name[0] != '.' {
			l.read(filepath.Join(dir, name))
		}
	}
	return l.finish()
}

// Parse reads one document. name stands for the file in problems.
func Parse(name string, data []byte) (*Config, error) {
	l := newLoader()
	l.parse(l.source(name), data)
	return l.finish()
}

// loader takes the first of the three steps: files to raw tables.
type loader struct {
	builder
	decoder *decoder
	claims  map[string]*path // where a table was first, by path
	sources int
}

// table is a named raw table and where it stands.
type table[T any] struct {
	name string
	at   *path
	raw  T
}

func newLoader() *loader {
	c := &collector{}
	l := &loader{decoder: newDecoder(c), claims: make(map[string]*path)}
	l.builder.collector = c
	return l
}

func (l *loader) source(name string) *source {
	l.sources++
	return &source{name: name, order: l.sources}
}

func (l *loader) read(name string) {
	src := l.source(name)
	data, err := os.ReadFile(name)
	if err != nil {
		l.unreadable(src, err)
		return
	}
	l.parse(src, data)
}

// unreadable keeps the reason of an error that repeats the file's name.
func (l *loader) unreadable(src *source, err error) {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	l.partial = true
	l.addFile(src, 0, "cannot be read: "+err.Error())
}

func (l *loader) parse(src *source, data []byte) {
	l.files = append(l.files, src.name)
	src.data = string(data)
	// The map has all there is: keys are bound one by one, see decoder, where the
	// library would stop at the first that does not fit.
	var top map[string]any
	if _, err := toml.Decode(src.data, &top); err != nil {
		l.partial = true
		line, msg := 0, err.Error()
		var pe toml.ParseError
		if errors.As(err, &pe) {
			line, msg = syntaxLine(src.data, pe.Position), syntaxMessage(pe.Message)
		}
		l.addFile(src, line, msg)
		return
	}
	root := &path{src: src}
	for _, key := range slices.Sorted(maps.Keys(top)) {
		l.top(top[key], root.child(key), key)
	}
}

// syntaxLine is the line where what is wrong ends. The library has it too, but
// it takes a newline for a part of the next line.
func syntaxLine(data string, at toml.Position) int {
	data = strings.TrimPrefix(data, "\ufeff")
	end := min(max(at.Start+at.Len-1, 0), len(data))
	return 1 + strings.Count(data[:end], "\n")
}

var oneLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)

// syntaxMessage gives the library's messages the form of ours.
func syntaxMessage(s string) string {
	s = strings.TrimSuffix(s, ".")
	s = strings.Replace(s, `'\x00' instead`, "the end of the file", 1) // no NUL gets that far
	s = oneLine.Replace(s)
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		s = strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// top decodes what stands at the top of a file.
func (l *loader) top(v any, at *path, key string) {
	switch key {
	case "server":
		one(l, &l.server, v, at)
	case "admin":
		one(l, &l.admin, v, at)
	case "access_log":
		one(l, &l.accessLog, v, at)
	case "hot_restart":
		one(l, &l.hotRestart, v, at)
	case "listener":
		l.listeners = named(l, l.listeners, v, at)
	case "cluster":
		l.clusters = named(l, l.clusters, v, at)
	case "persistence":
		one(l, &l.keys, v, at)
	case "table":
		l.tables = named(l, l.tables, v, at)
	default:
		l.decoder.unknown(at, key, []string{"server", "admin", "access_log", "hot_restart", "listener", "cluster", "persistence", "table"})
	}
}

// claim reports a table that another file has already.
func (l *loader) claim(at *path) bool {
	key := at.String()
	first, taken := l.claims[key]
	if !taken {
		l.claims[key] = at
		return true
	}
	l.add(at, "is in %s:%d as well; a table belongs in one file", first.src.name, first.src.line(first))
	return false
}

// one decodes a table that exists once. The first to come is used.
func one[T any](l *loader, dst *table[T], v any, at *path) {
	t := table[T]{at: at}
	l.decoder.table(reflect.ValueOf(&t.raw).Elem(), v, at)
	if l.claim(at) {
		*dst = t
	}
}

// named decodes the tables of listener or cluster.
func named[T any](l *loader, list []*table[T], v any, at *path) []*table[T] {
	m, ok := v.(map[string]any)
	if !ok {
		l.add(at, "must be a table of tables, not %s", kind(v))
		return list
	}
	for name, v := range m {
		t := &table[T]{name: name, at: at.child(name)}
		if !isName(name) {
			l.add(t.at, "a name has letters, digits, \"_\", \"-\" and \".\", at most %d", maxName)
		}
		if !l.decoder.table(reflect.ValueOf(&t.raw).Elem(), v, t.at) {
			l.partial = true
		} else if l.claim(t.at) {
			list = append(list, t)
		}
	}
	return list
}

// maxName keeps names usable as labels of statistics.
const maxName = 64

func isName(s string) bool {
	for i := range len(s) {
		if !isBareKey(s[i]) && s[i] != '.' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
