package certs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// hop is one name that had to be looked up to reach a file. If that name comes
// to mean something else in its directory, so does the path.
type hop struct{ dir, name string }

// descriptor matches the directory behind a descriptor. It is a root of its
// own: what its link says may not be reachable by name from here.
var descriptor = regexp.MustCompile(`^/proc/(self|[0-9]+)/fd/[0-9]+(/|$)`)

// maxLinks is the kernel's limit of symbolic links in one path.
const maxLinks = 40

// trace follows a path through every link. The last hop is the file itself, or
// the first name on the way that does not exist.
func trace(path string) (hops []hop) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	at, rest := split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		hops = append(hops, hop{at, name})
		full := filepath.Join(at, name)
		info, err := os.Lstat(full)
		if err != nil {
			return hops
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = full
			continue
		}
		target, err := os.Readlink(full)
		if links++; err != nil || links > maxLinks {
			return hops
		}
		root, more := split(target)
		if root != "" {
			at = root
		}
		rest = slices.Concat(more, rest)
	}
	return hops
}

// split gives where a path starts, "" for a relative one, and its names.
func split(path string) (root string, names []string) {
	if root = strings.TrimSuffix(descriptor.FindString(path), "/"); root == "" && filepath.IsAbs(path) {
		root = "/"
	}
	for name := range strings.SplitSeq(path[len(root):], "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return root, names
}

// print is what tells one content of a file from another without reading it,
// whatever links lead there.
type print struct{ info os.FileInfo }

func (a print) equal(b print) bool {
	if a.info == nil || b.info == nil {
		return a.info == nil && b.info == nil
	}
	return os.SameFile(a.info, b.info) && a.info.Size() == b.info.Size() &&
		a.info.Mode() == b.info.Mode() && a.info.ModTime().Equal(b.info.ModTime())
}

func fingerprint(paths []string) []print {
	list := make([]print, len(paths))
	for i, path := range paths {
		list[i].info, _ = os.Stat(path) // nil: it is not there, or out of reach
	}
	return list
}
