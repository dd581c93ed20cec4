package headroom

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// Read asks the kernel. root is "", or a directory with a proc and a cgroup
// tree to read instead of /proc and /sys/fs/cgroup.
//
// Only control groups of version 2 are read: cgroups(7). All groups from that
// of the process up to the root count, because a limit holds for everything
// below it. The error says that not even RSS is known; the other figures hold
// beside it.
func Read(root string) (Reading, error) {
	r := reader{proc: root + "/proc", groups: root + "/cgroup"}
	if root == "" {
		r.groups = "/sys/fs/cgroup"
	}
	r.Reading = Reading{RSS: Unknown, Limit: Unknown, Current: Unknown, Lowest: Unknown, Available: Unknown}
	r.available()
	r.limits()
	err := r.rss()
	if err != nil {
		r.note("%v", err)
	}
	r.Note = strings.Join(r.notes, "; ")
	return r.Reading, err
}

// reader fills a Reading.
type reader struct {
	Reading
	proc, groups string // directories
	notes        []string
}

func (r *reader) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *reader) rss() error {
	file := r.proc + "/self/statm"
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("rss: %w", err)
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return fmt.Errorf("rss: %s has no resident size", file)
	}
	rss, err := number(f[1], int64(os.Getpagesize()))
	if err != nil {
		return fmt.Errorf("rss: %s: %w", file, err)
	}
	r.RSS = rss
	return nil
}

func (r *reader) available() {
	file := r.proc + "/meminfo"
	n, err := lineOf(file, "MemAvailable:", 1<<10)
	if err != nil {
		r.note("memory of the host: %v", err)
		return
	}
	r.Available = n
}

// limits looks for the group with the least room and for the lowest limit.
func (r *reader) limits() {
	group, err := r.group()
	if err != nil {
		r.note("memory limit: %v", err)
		return
	}
	seen := false
	for p := group; ; p = path.Dir(p) {
		limit, err := figure(r.groups + p + "/memory.max")
		switch {
		case err == nil:
			seen = true
			r.level(p, limit)
		case errors.Is(err, errNoLimit):
			seen = true
		case !errors.Is(err, fs.ErrNotExist): // the root has none, nor a group whose parent does not hand memory on
			r.note("memory limit: %v", err)
		}
		if p == "/" {
			break
		}
	}
	if !seen {
		r.note("memory limit: no memory.max for control group %s", group)
	}
}

// level takes a group with a limit into account.
func (r *reader) level(group string, limit int64) {
	if r.Lowest < 0 || limit < r.Lowest {
		r.Lowest = limit
	}
	current, err := figure(r.groups + group + "/memory.current")
	if err != nil {
		r.note("memory in use: %v", err)
		return
	}
	inactive, err := lineOf(r.groups+group+"/memory.stat", "inactive_file", 1)
	if err != nil {
		r.note("page cache: %v", err)
		inactive = 0
	}
	current = max(0, current-inactive)
	if r.Limit < 0 || limit-current < r.Limit-r.Current {
		r.Limit, r.Current, r.LimitPath = limit, current, group
	}
}

// group is the control group of version 2 that this process is in, as a path
// below the mount point.
func (r *reader) group() (string, error) {
	file := r.proc + "/self/cgroup"
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	group := ""
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) < 3:
			return "", fmt.Errorf("%s: %q is no control group", file, line)
		case f[0] == "0" && f[1] == "":
			group = f[2]
		case has(f[1], "memory"):
			return "", errors.New("a control group of version 1 has it, which is not read")
		}
	}
	switch {
	case !strings.HasPrefix(group, "/"):
		return "", fmt.Errorf("%s names no control group of version 2", file)
	case group == "/.." || strings.HasPrefix(group, "/../"):
		// Outside of the namespace: cgroup_namespaces(7). Only what is mounted can be read.
		return "/", nil
	}
	return path.Clean(group), nil
}

// has tells whether a list with commas has a word.
func has(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// errNoLimit is what "max" means in a file of a control group.
var errNoLimit = errors.New("no limit")

// figure reads a file of a control group that has one number.
func figure(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(data))
	if s == "max" {
		return 0, errNoLimit
	}
	n, err := number(s, 1)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

// lineOf reads the number of units behind a word at the beginning of a line.
func lineOf(file, word string, unit int64) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != word {
			continue
		}
		n, err := number(f[1], unit)
		if err != nil {
			return 0, fmt.Errorf("%s: %s %w", file, word, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s has no %s", file, word)
}

// largest is beyond every memory, and small enough to count with.
const largest = 1 << 60

// number is s in bytes.
func number(s string, unit int64) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > uint64(largest/unit) {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	return int64(n) * unit, nil
}
