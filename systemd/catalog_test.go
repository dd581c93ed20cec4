package systemd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"belay/internal/systemd"
)

// entry is what the catalog says about an event.
type entry struct {
	headers map[string]string
	text    string
}

// catalog reads belay.catalog as systemd-catalog does: "-- ID" begins an entry,
// headers follow, then an empty line and the text.
func catalog(t *testing.T) map[string]entry {
	t.Helper()
	b, err := os.ReadFile("belay.catalog")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[string]entry)
	for _, part := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		head, text, ok := strings.Cut(rest, "\n\n")
		if !ok || strings.TrimSpace(text) == "" {
			t.Errorf("%s: no text", id)
		}
		if _, double := entries[id]; double {
			t.Errorf("%s: two entries", id)
		}
		e := entry{headers: make(map[string]string), text: text}
		for _, line := range strings.Split(head, "\n") {
			name, value, ok := strings.Cut(line, ": ")
			if !ok {
				t.Errorf("%s: no header: %q", id, line)
			}
			e.headers[name] = value
		}
		entries[id] = e
	}
	return entries
}

func TestCatalogHasEveryEvent(t *testing.T) {
	entries := catalog(t)
	for _, e := range systemd.Events {
		got, ok := entries[e.ID]
		if !ok {
			t.Errorf("%s (%s) has no entry", e.Name, e.ID)
			continue
		}
		delete(entries, e.ID)
		if got.headers["Subject"] == "" || got.headers["Defined-By"] != "belay" || !strings.Contains(got.headers["Documentation"], "man:belay-hotrestart(7)") {
			t.Errorf("%s: headers %q", e.Name, got.headers)
		}
	}
	for id := range entries {
		t.Errorf("%s is no event", id)
	}
}

// TestCatalogKnowsItsFields: a field that a text names must be an attribute of
// that event wherever it is logged, or journalctl would show a hole.
func TestCatalogKnowsItsFields(t *testing.T) {
	logged, names := attributes(t), constants(t)
	field := regexp.MustCompile(`@BELAY_([A-Z_]+)@`)
	entries := catalog(t)
	for _, e := range systemd.Events {
		entry := entries[e.ID]
		calls := logged[names[e.ID]]
		if len(calls) == 0 {
			t.Errorf("%s is never logged", e.Name)
		}
		for _, m := range field.FindAllStringSubmatch(entry.headers["Subject"]+entry.text, -1) {
			name := strings.ToLower(m[1])
			for _, c := range calls {
				if name != "epoch" && !slices.Contains(c.names, name) {
					t.Errorf("%s: the catalog names %s, which %s does not log", e.Name, m[0], c.where)
				}
			}
		}
	}
}

// call is a place where an event is logged, with the names of its attributes.
type call struct {
	where string
	names []string
}

// attributes finds in the sources how each event, by the name of its constant, is
// logged: the strings among the arguments beside it.
func attributes(t *testing.T) map[string][]call {
	t.Helper()
	calls := make(map[string][]call)
	fset := token.NewFileSet()
	for _, f := range sources(t, fset, "../internal") {
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			event := ""
			var names []string
			for _, arg := range c.Args {
				switch x := arg.(type) {
				case *ast.SelectorExpr:
					if strings.HasPrefix(x.Sel.Name, "Event") {
						event = x.Sel.Name
					}
				case *ast.BasicLit:
					if s, err := strconv.Unquote(x.Value); err == nil {
						names = append(names, s)
					}
				}
			}
			if event != "" {
				calls[event] = append(calls[event], call{fset.Position(c.Pos()).String(), names})
			}
			return true
		})
	}
	return calls
}

// constants is the name of the constant for each id.
func constants(t *testing.T) map[string]string {
	t.Helper()
	names := make(map[string]string)
	for _, f := range sources(t, token.NewFileSet(), "../internal/systemd") {
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "Event") {
				if lit, ok := v.Values[0].(*ast.BasicLit); ok {
					if id, err := strconv.Unquote(lit.Value); err == nil {
						names[id] = v.Names[0].Name
					}
				}
			}
			return true
		})
	}
	return names
}

// sources parses the Go files below a folder that are not tests.
func sources(t *testing.T, fset *token.FileSet, dir string) (files []*ast.File) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
