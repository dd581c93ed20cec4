package certs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CredentialPrefix begins the name of a systemd credential where a path may stand.
const CredentialPrefix = "credential:"

// maxFile bounds what is read into memory; the CRLs of large authorities have
// some MiB.
const maxFile = 64 << 20

// Files finds and reads files.
type Files struct {
	Credentials string // the directory of credentials, which may be /proc/self/fd/N; "": there is none
}

// resolve turns a path or credential:NAME into a path. A credential without a
// directory gets a path that cannot be there, so that reading says why.
func (f *Files) resolve(spec string) (string, error) {
	name, ok := strings.CutPrefix(spec, CredentialPrefix)
	switch {
	case !ok:
		return spec, nil
	case f == nil || f.Credentials == "":
		return "", fmt.Errorf("%s: there are no credentials: CREDENTIALS_DIRECTORY is not set (LoadCredential= in the unit sets it, from the next start on: a reload does not)", spec)
	case name == "" || strings.Contains(name, "/") || name == "." || name == "..":
		return "", fmt.Errorf("%s: not the name of a credential", spec)
	}
	return filepath.Join(f.Credentials, name), nil
}

// resolveAll gives the paths of those that have one.
func (f *Files) resolveAll(specs []string) []string {
	var paths []string
	for _, spec := range specs {
		if path, err := f.resolve(spec); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// errUnsteady is of files that changed while they were read.
var errUnsteady = errors.New("the files keep changing while they are read")

// readAll reads files of one generation: if any was replaced or written while
// they were read, it starts again. From number need on a file may be missing
// and is then empty. The prints are of what was read, also when that failed.
func (f *Files) readAll(specs []string, need int) ([][]byte, []print, error) {
	paths := make([]string, len(specs))
	for i, spec := range specs {
		path, err := f.resolve(spec)
		if err != nil {
			return nil, nil, err
		}
		paths[i] = path
	}
	before := fingerprint(paths)
	for range 5 {
		data := make([][]byte, len(paths))
		for i, path := range paths {
			content, err := readFile(path)
			if err != nil && i < need {
				return nil, before, fmt.Errorf("read %s: %w", specs[i], err)
			}
			data[i] = content
		}
		after := fingerprint(paths)
		if slices.EqualFunc(before, after, print.equal) {
			return data, before, nil
		}
		before = after
	}
	return nil, before, fmt.Errorf("read %s: %w", specs[0], errUnsteady)
}

// readFile reads a regular file; anything else might never end or never begin.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, cause(err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("not a regular file but %s", info.Mode().Type())
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%d bytes are more than %d", info.Size(), maxFile)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, cause(err)
	}
	return data, nil
}

// cause takes the path out of an error that will be given a better one.
func cause(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}
