package archtest

import (
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// file is one parsed Go file of the module.
type file struct {
	path      string // from the top of the module
	pkg       string // folder, with slashes
	test      bool
	generated bool
	source    []byte
	ast       *ast.File
}

// module parses every Go file of the module.
func module(t *testing.T) []file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root {
			if _, err := os.Stat(path + "/go.mod"); err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
		if err != nil {
			t.Errorf("%v", err)
			return nil
		}
		files = append(files, file{
			path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"),
			generated: ast.IsGenerated(tree), source: source, ast: tree,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d Go files found", len(files))
	}
	return files
}

func (f *file) imports() []string {
	var list []string
	for _, s := range f.ast.Imports {
		p, _ := strconv.Unquote(s.Path.Value)
		list = append(list, p)
	}
	return list
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range module(t) {
		if f.test && strings.HasPrefix(f.pkg, "internal/") {
			continue // a test may put neighbours together
		}
		for _, imp := range f.imports() {
			to, ours := strings.CutPrefix(imp, "belay/")
			if !ours {
				continue
			}
			if why := edge(f.pkg, to); why != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, why)
			}
		}
	}
}

// edge tells what is wrong with an import; "" if nothing is.
func edge(from, to string) string {
	source, internal := strings.CutPrefix(from, "internal/")
	if !internal {
		allowed, known := outside[from]
		switch {
		case !known:
			return "the importing package is not in the table"
		case !slices.Contains(allowed, to):
			return "not in the table"
		}
		return ""
	}
	target, ok := strings.CutPrefix(to, "internal/")
	if !ok {
		return "internal packages import only internal packages"
	}
	a, knownA := layers[source]
	b, knownB := layers[target]
	switch {
	case !knownA || !knownB:
		return "a package without a layer"
	case b > a:
		return "upward"
	case a == b && !slices.Contains(sideways[source], target):
		return "sideways"
	}
	return ""
}

func TestEdge(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"internal/http1", "internal/header", true},
		{"internal/header", "internal/http1", false},
		{"internal/header", "internal/stats", false},
		{"internal/admin", "internal/admin/adminapi", true},
		{"internal/admin/adminapi", "internal/admin", false},
		{"internal/httpproxy", "internal/unheard", false},
		{"internal/server", "cmd/belayd", false},
		{"cmd/belayctl", "internal/admin/adminapi", true},
		{"cmd/belayctl", "internal/config", false},
		{"test", "internal/config", false},
		{"elsewhere", "internal/config", false},
	} {
		if why := edge(tt.from, tt.to); (why == "") != tt.ok {
			t.Errorf("%s to %s: %q", tt.from, tt.to, why)
		}
	}
}

func TestEveryPackageHasALayer(t *testing.T) {
	for _, f := range module(t) {
		name, internal := strings.CutPrefix(f.pkg, "internal/")
		if _, ok := layers[name]; internal && !ok && name != "archtest" {
			t.Errorf("%s: package %s has no layer", f.path, f.pkg)
		}
		if _, ok := outside[f.pkg]; !internal && !ok {
			t.Errorf("%s: package %s is not in the table", f.path, f.pkg)
		}
	}
}

func TestFences(t *testing.T) {
	free := regexp.MustCompile(harmless)
	for _, f := range module(t) {
		name, internal := strings.CutPrefix(f.pkg, "internal/")
		if !internal || f.test {
			continue
		}
		for _, imp := range f.imports() {
			allowed, fenced := fences[imp]
			if !fenced || slices.Contains(allowed, name) {
				continue
			}
			if imp != "syscall" {
				t.Errorf("%s imports %s", f.path, imp)
				continue
			}
			for _, used := range selectors(f.ast, "syscall") {
				if !free.MatchString(used) {
					t.Errorf("%s uses syscall.%s", f.path, used)
				}
			}
		}
		for _, pkg := range []string{"syscall", "unix"} {
			for _, used := range selectors(f.ast, pkg) {
				if strings.HasPrefix(used, "RawSyscall") && name != "eventloop" {
					t.Errorf("%s uses %s.%s: only eventloop may", f.path, pkg, used)
				}
			}
		}
	}
}

// selectors lists the names taken out of a package in a file.
func selectors(tree *ast.File, pkg string) []string {
	var names []string
	ast.Inspect(tree, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg && x.Obj == nil {
				names = append(names, s.Sel.Name)
			}
		}
		return true
	})
	return names
}

func TestNoInitFunctions(t *testing.T) {
	for _, f := range module(t) {
		if f.generated {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function", f.path)
			}
		}
	}
}

func TestFormat(t *testing.T) {
	for _, f := range module(t) {
		formatted, err := format.Source(f.source)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
			continue
		}
		if string(formatted) != string(f.source) {
			t.Errorf("%s is not formatted", f.path)
		}
	}
}
