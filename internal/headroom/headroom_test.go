package headroom

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

// host is a tree of files below a new directory; a file is absent if its text
// is "-". Without more it is a host with 100 MiB RSS, 1 GiB available and no limit.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	all := map[string]string{
		"proc/self/statm":    fmt.Sprintf("1000000 %d 500 100 0 400 0\n", 100*mib/os.Getpagesize()),
		"proc/self/cgroup":   "0::/system.slice/belay.service\n",
		"proc/meminfo":       "MemTotal:        4194304 kB\nMemFree:           10240 kB\nMemAvailable:    1048576 kB\n",
		"cgroup/memory.stat": "anon 1\n", // the root has no limit and no memory.current
	}
	for name, text := range files {
		all[name] = text
	}
	root := t.TempDir()
	for name, text := range all {
		if text == "-" {
			continue
		}
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// group makes the files of one control group; the figures are MiB.
func group(files map[string]string, path, limit string, current, inactive int) map[string]string {
	if files == nil {
		files = make(map[string]string)
	}
	files["cgroup"+path+"/memory.max"] = limit + "\n"
	files["cgroup"+path+"/memory.current"] = fmt.Sprintln(current * mib)
	files["cgroup"+path+"/memory.stat"] = fmt.Sprintf("anon 4096\nfile 8192\ninactive_file %d\nactive_file 1\n", inactive*mib)
	return files
}

func mibText(n int) string { return fmt.Sprint(n * mib) }

const service = "/system.slice/belay.service"

var readTests = []struct {
	name  string
	files map[string]string
	want  Reading // in MiB but for Unknown
	note  string  // ROOT stands for the directory
}{
	{"nested, the own limit", group(group(nil, service, mibText(256), 176, 0), "/system.slice", "max", 900, 0),
		Reading{100, 256, 176, service, 256, 1024, ""}, ""},
	{"nested, the slice has less room", group(group(nil, service, mibText(256), 100, 0), "/system.slice", mibText(1000), 950, 0),
		Reading{100, 1000, 950, "/system.slice", 256, 1024, ""}, ""},
	{"nested, equal room", group(group(nil, service, mibText(256), 156, 0), "/system.slice", mibText(200), 100, 0),
		Reading{100, 256, 156, service, 200, 1024, ""}, ""},
	{"inactive page cache is room", group(nil, service, mibText(256), 176, 100),
		Reading{100, 256, 76, service, 256, 1024, ""}, ""},
	{"more cache than memory", group(nil, service, mibText(256), 10, 100),
		Reading{100, 256, 0, service, 256, 1024, ""}, ""},
	{"no limit", group(group(nil, service, "max", 176, 0), "/system.slice", "max", 176, 0),
		Reading{100, -1, -1, "", -1, 1024, ""}, ""},
	{"limit of nothing", group(nil, service, "0", 1, 0),
		Reading{100, 0, 1, service, 0, 1024, ""}, ""},
	{"no control group has memory", nil,
		Reading{100, -1, -1, "", -1, 1024, ""}, "memory limit: no memory.max for control group /system.slice/belay.service"},
	{"own root of a container", group(map[string]string{"proc/self/cgroup": "0::/\n"}, "", mibText(64), 1, 0),
		Reading{100, 64, 1, "/", 64, 1024, ""}, ""},
	{"path of the host in a container", group(map[string]string{"proc/self/cgroup": "0::/docker/1234\n"}, "", mibText(64), 1, 0),
		Reading{100, 64, 1, "/", 64, 1024, ""}, ""},
	{"outside of the namespace", group(group(map[string]string{"proc/self/cgroup": "0::/../other\n"}, "", mibText(64), 1, 0), "/other", "1", 1, 0),
		Reading{100, 64, 1, "/", 64, 1024, ""}, ""},
	{"path with colons", group(map[string]string{"proc/self/cgroup": "0::/a:b\n"}, "/a:b", mibText(64), 1, 0),
		Reading{100, 64, 1, "/a:b", 64, 1024, ""}, ""},
	{"hybrid", group(map[string]string{"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/x\n0::/\n"}, "/x", mibText(1), 1, 0),
		Reading{100, -1, -1, "", -1, 1024, ""}, "memory limit: a control group of version 1 has it, which is not read"},
	{"hybrid with memory in version 2", group(map[string]string{"proc/self/cgroup": "9:name=systemd:/\n0::/x\n"}, "/x", mibText(64), 1, 0),
		Reading{100, 64, 1, "/x", 64, 1024, ""}, ""},
	{"version 1", map[string]string{"proc/self/cgroup": "1:cpu:/\n"},
		Reading{100, -1, -1, "", -1, 1024, ""}, "memory limit: ROOT/proc/self/cgroup names no control group of version 2"},
	{"garbage cgroup", map[string]string{"proc/self/cgroup": "a\n"},
		Reading{100, -1, -1, "", -1, 1024, ""}, `memory limit: ROOT/proc/self/cgroup: "a\n" is no control group`},
	{"no cgroup", map[string]string{"proc/self/cgroup": "-"},
		Reading{100, -1, -1, "", -1, 1024, ""}, "memory limit: open ROOT/proc/self/cgroup: no such file or directory"},
	{"garbage limit", group(group(nil, service, "-5", 1, 0), "/system.slice", mibText(512), 1, 0),
		Reading{100, 512, 1, "/system.slice", 512, 1024, ""}, `memory limit: ROOT/cgroup/system.slice/belay.service/memory.max: "-5" is not a size`},
	{"empty limit", group(nil, service, "", 1, 0),
		Reading{100, -1, -1, "", -1, 1024, ""}, `memory limit: ROOT/cgroup/system.slice/belay.service/memory.max: "" is not a size; ` +
			"memory limit: no memory.max for control group /system.slice/belay.service"},
	{"no current", map[string]string{"cgroup" + service + "/memory.max": mibText(64)},
		Reading{100, -1, -1, "", 64, 1024, ""}, "memory in use: open ROOT/cgroup/system.slice/belay.service/memory.current: no such file or directory"},
	{"no stat", map[string]string{"cgroup" + service + "/memory.max": mibText(64), "cgroup" + service + "/memory.current": mibText(32)},
		Reading{100, 64, 32, service, 64, 1024, ""}, "page cache: open ROOT/cgroup/system.slice/belay.service/memory.stat: no such file or directory"},
	{"no meminfo", group(map[string]string{"proc/meminfo": "-"}, service, mibText(64), 1, 0),
		Reading{100, 64, 1, service, 64, -1, ""}, "memory of the host: open ROOT/proc/meminfo: no such file or directory"},
	{"old meminfo", group(map[string]string{"proc/meminfo": "MemFree: 1 kB\n"}, service, mibText(64), 1, 0),
		Reading{100, 64, 1, service, 64, -1, ""}, "memory of the host: ROOT/proc/meminfo has no MemAvailable:"},
	{"garbage meminfo", group(map[string]string{"proc/meminfo": "MemAvailable:\nMemAvailable: 99999999999999999999 kB\n"}, service, mibText(64), 1, 0),
		Reading{100, 64, 1, service, 64, -1, ""}, `memory of the host: ROOT/proc/meminfo: MemAvailable: "99999999999999999999" is not a size`},
	{"no statm", map[string]string{"proc/self/statm": "-", "cgroup" + service + "/memory.max": "max"},
		Reading{-1, -1, -1, "", -1, 1024, ""}, "rss: open ROOT/proc/self/statm: no such file or directory"},
	{"short statm", map[string]string{"proc/self/statm": "1\n", "cgroup" + service + "/memory.max": "max"},
		Reading{-1, -1, -1, "", -1, 1024, ""}, "rss: ROOT/proc/self/statm has no resident size"},
	{"garbage statm", map[string]string{"proc/self/statm": "1 9223372036854775807 1\n", "cgroup" + service + "/memory.max": "max"},
		Reading{-1, -1, -1, "", -1, 1024, ""}, `rss: ROOT/proc/self/statm: "9223372036854775807" is not a size`},
}

func TestRead(t *testing.T) {
	for _, tt := range readTests {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t, tt.files)
			got, err := Read(root)
			if (err != nil) != (tt.want.RSS == Unknown) {
				t.Errorf("error %v", err)
			}
			want := tt.want
			for _, n := range []*int64{&want.RSS, &want.Limit, &want.Current, &want.Lowest, &want.Available} {
				if *n != Unknown {
					*n *= mib
				}
			}
			note := strings.ReplaceAll(got.Note, root, "ROOT")
			got.Note = ""
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if note != tt.note {
				t.Errorf("note %s\nwant %s", note, tt.note)
			}
		})
	}
}

// A limit that cannot be read does not look like none.
func TestReadUnreadable(t *testing.T) {
	root := host(t, map[string]string{"cgroup" + service: "a file where a directory should be"})
	r, err := Read(root)
	if err != nil || r.Limit != Unknown || !strings.Contains(r.Note, "memory limit: open "+root+"/cgroup"+service+"/memory.max: not a directory") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCheck(t *testing.T) {
	const m = "too little memory for a second process: "
	none := Reading{100 * mib, -1, -1, "", -1, -1, ""}
	free := Reading{100 * mib, 512 * mib, 100 * mib, service, 512 * mib, 1024 * mib, ""}
	limit := Reading{100 * mib, 256 * mib, 176 * mib, service, 256 * mib, 1024 * mib, ""}
	full := Reading{100 * mib, 64 * mib, 65 * mib, "/", 64 * mib, -1, ""}
	tight := Reading{100 * mib, 512 * mib, 100 * mib, service, 512 * mib, 110 * mib, ""}
	exact := Reading{100 * mib, 220 * mib, 100 * mib, service, 220 * mib, -1, ""}
	blind := Reading{-1, 64 * mib, 64 * mib, service, 64 * mib, 0, ""}
	for _, tt := range []struct {
		name string
		r    Reading
		need int64
		want string
	}{
		{"OK", free, 0, ""},
		{"OK nothing known", none, 1 << 40, ""},
		{"OK exactly enough", exact, 0, ""},
		{"OK no RSS", blind, 0, ""},
		{"OK need is given", limit, 80 * mib, ""},
		{"bad limit", limit, 0, m + "needs 120 MiB (1.2 × RSS 100 MiB), room 80 MiB (memory.max 256 MiB of /system.slice/belay.service, in use 176 MiB)"},
		{"bad by a byte", limit, 80*mib + 1, m + "needs 80.1 MiB (memory_headroom), room 80 MiB (memory.max 256 MiB of /system.slice/belay.service, in use 176 MiB)"},
		{"bad host", tight, 0, m + "needs 120 MiB (1.2 × RSS 100 MiB), room 110 MiB (MemAvailable of the host)"},
		{"bad over the limit", full, 1, m + "needs 1 B (memory_headroom), room 0 B (memory.max 64 MiB of /, in use 65 MiB)"},
		{"bad need is given", free, 1 << 40, m + "needs 1 TiB (memory_headroom), room 412 MiB (memory.max 512 MiB of /system.slice/belay.service, in use 100 MiB)"},
		{"bad no RSS", blind, 1, m + "needs 1 B (memory_headroom), room 0 B (MemAvailable of the host)"},
	} {
		got := ""
		if err := tt.r.Check(tt.need); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
	if room := none.Room(); room != Unknown {
		t.Errorf("room %d of a host that says nothing", room)
	}
	if room := tight.Room(); room != 110*mib {
		t.Errorf("room %d", room)
	}
}

func TestGoMemLimit(t *testing.T) {
	for lowest, want := range map[int64]int64{Unknown: 0, 0: 0, 1000: 900, 256 * mib: 241591911} {
		if got := GoMemLimit(Reading{Lowest: lowest}); got != want {
			t.Errorf("limit %d: %d, want %d", lowest, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		up   bool
		want string
	}{
		{0, true, "0 B"}, {1023, false, "1023 B"}, {1024, true, "1 KiB"}, {1025, false, "1 KiB"}, {1025, true, "1.1 KiB"},
		{1<<20 - 1, false, "1023.9 KiB"}, {1<<20 - 1, true, "1024 KiB"}, {1536, true, "1.5 KiB"}, {largest, true, "1048576 TiB"},
	} {
		if got := text(tt.n, tt.up); got != tt.want {
			t.Errorf("%d %v: %s, want %s", tt.n, tt.up, got, tt.want)
		}
	}
}

// This host says something, whatever it is.
func TestReadThisHost(t *testing.T) {
	r, err := Read("")
	if err != nil || r.RSS < mib || r.Available < r.RSS/10 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Limit == Unknown && r.Lowest == Unknown && r.Room() != r.Available {
		t.Errorf("room %d of %+v", r.Room(), r)
	}
	t.Logf("%+v", r)
}
