package systemd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"golang.org/x/sys/unix"
)

// parseNative takes a record of the Journal Native Protocol apart. A field may
// come more than once.
func parseNative(b []byte) (map[string][]string, error) {
	fields := map[string][]string{}
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil, fmt.Errorf("no newline after %q", b)
		}
		line, rest := string(b[:end]), b[end+1:]
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			if len(rest) < 8 {
				return nil, fmt.Errorf("no length after %q", line)
			}
			n := binary.LittleEndian.Uint64(rest)
			rest = rest[8:]
			if uint64(len(rest)) < n+1 || rest[n] != '\n' {
				return nil, fmt.Errorf("field %q of %d bytes does not end in a newline", name, n)
			}
			value, rest = string(rest[:n]), rest[n+1:]
		}
		fields[name] = append(fields[name], value)
		b = rest
	}
	return fields, nil
}

// nextRecord is the record that the journal gets next.
func nextRecord(t *testing.T, r *receiver) map[string][]string {
	t.Helper()
	got, fds := r.next(t)
	if len(fds) > 0 {
		t.Fatalf("descriptors came with %.100q", got)
	}
	fields, err := parseNative([]byte(got))
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// journalLog is a logger, what it writes lines to, and the journal.
func journalLog(t *testing.T, level slog.Leveler) (*slog.Logger, *bytes.Buffer, *receiver) {
	t.Helper()
	r := newReceiver(t, t.TempDir()+"/socket")
	var b bytes.Buffer
	h := newJournalHandler(&b, level, func() uint64 { return 7 }, r.name)
	t.Cleanup(func() { closeNative(h) })
	return slog.New(h), &b, r
}

func closeNative(h *journalHandler) {
	if h.stream.journal != nil {
		unix.Close(h.stream.journal.fd)
	}
}

func TestJournalEvent(t *testing.T) {
	log, b, r := journalLog(t, nil)
	log = log.With("listener", "web").WithGroup("peer").With("pid", 12)
	log.Warn("reload failed", MessageID, EventReloadFailed, "reason", "bad\nkey", slog.Group("drain", "left", 3, "time", 90*time.Second), "path-ß", "/a b")

	want := map[string][]string{
		"MESSAGE":               {`reload failed listener=web peer.pid=12 peer.reason="bad\nkey" peer.drain.left=3 peer.drain.time=1m30s peer.path-ß="/a b"`},
		"MESSAGE_ID":            {EventReloadFailed},
		"PRIORITY":              {"4"},
		"SYSLOG_IDENTIFIER":     {"belayd"},
		"BELAY_EPOCH":           {"7"},
		"BELAY_LISTENER":        {"web"},
		"BELAY_PEER_PID":        {"12"},
		"BELAY_PEER_REASON":     {"bad\nkey"},
		"BELAY_PEER_DRAIN_LEFT": {"3"},
		"BELAY_PEER_DRAIN_TIME": {"1m30s"},
		"BELAY_PEER_PATH__":     {"/a b"},
	}
	if got := nextRecord(t, r); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if b.Len() != 0 {
		t.Errorf("a line as well: %q", b)
	}
}

// The bytes of the protocol, once in full.
func TestJournalEventBytes(t *testing.T) {
	log, _, r := journalLog(t, nil)
	log.Info("ready", MessageID, EventReady, "text", "two\nlines")
	want := "MESSAGE=ready text=\"two\\nlines\"\nPRIORITY=6\nMESSAGE_ID=" + EventReady +
		"\nSYSLOG_IDENTIFIER=belayd\nBELAY_EPOCH=7\nBELAY_TEXT\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n"
	if got, _ := r.next(t); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestJournalPriorities(t *testing.T) {
	log, b, r := journalLog(t, slog.Level(-8))
	for _, tt := range []struct {
		level slog.Level
		want  string
	}{
		{slog.LevelDebug - 4, "7"}, {slog.LevelDebug, "7"}, {slog.LevelDebug + 1, "7"}, {slog.LevelInfo, "6"}, {slog.LevelInfo + 1, "6"},
		{slog.LevelWarn, "4"}, {slog.LevelError - 1, "4"}, {slog.LevelError, "3"}, {slog.LevelError + 9, "3"},
	} {
		b.Reset()
		log.Log(context.Background(), tt.level, "plain")
		if got, want := b.String(), "<"+tt.want+">plain\n"; got != want {
			t.Errorf("%v: got %q, want %q", tt.level, got, want)
		}
		log.Log(context.Background(), tt.level, "event", MessageID, EventReady)
		if got := nextRecord(t, r)["PRIORITY"]; !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%v: got PRIORITY %q, want %s", tt.level, got, tt.want)
		}
	}
}

func TestJournalLevelChanges(t *testing.T) {
	var level slog.LevelVar
	log, b, _ := journalLog(t, &level)
	log.Debug("a")
	level.Set(slog.LevelDebug)
	log.Debug("b")
	level.Set(slog.LevelError)
	log.Warn("c")
	if got, want := b.String(), "<7>b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What makes a record an event, and what does not.
func TestJournalWhatIsAnEvent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		log   func(log *slog.Logger)
		event bool
	}{
		{"no ID", func(log *slog.Logger) { log.Info("x") }, false},
		{"an ID", func(log *slog.Logger) { log.Info("x", MessageID, EventReady) }, true},
		{"upper case", func(log *slog.Logger) { log.Info("x", MessageID, strings.ToUpper(EventReady)) }, true},
		{"of the logger", func(log *slog.Logger) { log.With(MessageID, EventReady).Info("x") }, true},
		{"in a group", func(log *slog.Logger) { log.WithGroup("g").Info("x", MessageID, EventReady) }, true},
		{"too short", func(log *slog.Logger) { log.Info("x", MessageID, EventReady[1:]) }, false},
		{"not hexadecimal", func(log *slog.Logger) { log.Info("x", MessageID, "g"+EventReady[1:]) }, false},
		{"not a string", func(log *slog.Logger) { log.Info("x", MessageID, []byte(EventReady)) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log, b, r := journalLog(t, nil)
			tt.log(log)
			if (b.Len() == 0) != tt.event {
				t.Errorf("line: %q", b)
			}
			if tt.event {
				nextRecord(t, r)
			}
		})
	}
}

// An ID that a logger has does not get into its parent.
func TestJournalHandlersAreApart(t *testing.T) {
	log, b, r := journalLog(t, nil)
	base := log.With("a", 1)
	base.With(MessageID, EventReady, "b", 2).Info("event")
	base.With("c", 3).Info("line")
	if got, want := b.String(), "<6>line a=1 c=3\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := nextRecord(t, r)["MESSAGE"]; !slices.Equal(got, []string{"event a=1 b=2"}) {
		t.Errorf("got %q", got)
	}
}

func TestJournalFieldNames(t *testing.T) {
	log, _, r := journalLog(t, nil)
	long := strings.Repeat("n", 80)
	log.Info("x", MessageID, EventReady, "epoch", 3, "_hidden", "h", "0", "digit", "__", "nothing", "same", 1, "same", 2, long, "l")
	got := nextRecord(t, r)
	for _, name := range []string{"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"} {
		delete(got, name)
	}
	want := map[string][]string{
		"BELAY_EPOCH":                      {"7"},
		"BELAY_HIDDEN":                     {"h"},
		"BELAY_0":                          {"digit"},
		"BELAY_SAME":                       {"1", "2"},
		"BELAY_" + strings.Repeat("N", 58): {"l"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A record that does not fit into a datagram goes as a sealed file.
func TestJournalLargeEvent(t *testing.T) {
	log, b, r := journalLog(t, nil)
	value := strings.Repeat("x", 1<<20)
	log.Error("large", MessageID, EventReloadFailed, "reason", value)
	got, fds := r.next(t)
	if got != "" || len(fds) != 1 {
		t.Fatalf("got %d bytes, descriptors %v, line %.100q", len(got), fds, b)
	}
	f := os.NewFile(uintptr(fds[0]), "record")
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL; err != nil || seals != want {
		t.Errorf("seals %x, %v; want exactly %x", seals, err, want)
	}
	record, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	fields, err := parseNative(record)
	if err != nil {
		t.Fatal(err)
	}
	if r := fields["BELAY_REASON"]; len(r) != 1 || r[0] != value {
		t.Errorf("the value is another one, of %d", len(r))
	}
}

func TestJournalGone(t *testing.T) {
	log, b, r := journalLog(t, nil)
	log.Info("first", MessageID, EventReady)
	nextRecord(t, r)
	if err := os.Remove(r.name); err != nil {
		t.Fatal(err)
	}
	log.Error("second", MessageID, EventReloadFailed, "pid", 4)
	if got, want := b.String(), "<3>second pid=4\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	again := newReceiver(t, r.name) // journald was started anew
	log.Info("third", MessageID, EventReady)
	if got := nextRecord(t, again)["MESSAGE"]; !slices.Equal(got, []string{"third"}) {
		t.Errorf("got %q", got)
	}
}

func TestJournalNeverThere(t *testing.T) {
	var b bytes.Buffer
	h := newJournalHandler(&b, nil, nil, t.TempDir()+"/socket")
	defer closeNative(h)
	slog.New(h).Info("x", MessageID, EventReady)
	if got, want := b.String(), "<6>x\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJournalWriteError(t *testing.T) {
	h := newJournalHandler(failing{}, nil, nil, "")
	if err := h.Handle(context.Background(), slog.NewRecord(time.Time{}, 0, "x", 0)); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

// lines checks that each Write is one whole line.
type lines struct {
	t *testing.T
	n int
}

func (l *lines) Write(b []byte) (int, error) {
	if l.n++; !strings.HasPrefix(string(b), "<6>line w=") || bytes.IndexByte(b, '\n') != len(b)-1 {
		l.t.Errorf("not one line: %q", b)
	}
	return len(b), nil
}

func TestJournalConcurrently(t *testing.T) {
	r := newReceiver(t, t.TempDir()+"/socket")
	out := &lines{t: t}
	h := newJournalHandler(out, nil, func() uint64 { return 1 }, r.name)
	defer closeNative(h)
	base := slog.New(h).With("w", 1)
	const workers, each = 8, 100
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			log := base.With("worker", i)
			for k := range each {
				log.Info("line", "k", k)
				log.Info("event", MessageID, EventReady, "k", k)
			}
		})
	}
	for range workers * each {
		if got := nextRecord(t, r); len(got["BELAY_WORKER"]) != 1 || len(got["BELAY_K"]) != 1 || len(got) != 8 {
			t.Errorf("got %q", got)
		}
	}
	wg.Wait()
	if out.n != workers*each {
		t.Errorf("%d lines", out.n)
	}
}

// slogtest knows what a handler has to do; it gets the line as attributes.
func TestJournalLinesAsSlogWants(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return newJournalHandler(&b, nil, nil, "")
	}, func(t *testing.T) map[string]any {
		m, err := parseLine(strings.TrimSuffix(b.String(), "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(t.Name(), "zero-time") {
			m[slog.TimeKey] = "the journal has it"
		}
		return m
	})
}

// parseLine makes of "<N>message group.key=value" what slogtest wants. The
// message has one word, and no value a space.
func parseLine(line string) (map[string]any, error) {
	level, rest, ok := strings.Cut(strings.TrimPrefix(line, "<"), ">")
	words := strings.Split(rest, " ")
	if !ok || words[0] == "" {
		return nil, fmt.Errorf("not a line: %q", line)
	}
	top := map[string]any{slog.LevelKey: level, slog.MessageKey: words[0]}
	for _, w := range words[1:] {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("no value in %q of %q", w, line)
		}
		m, path := top, strings.Split(name, ".")
		for _, group := range path[:len(path)-1] {
			if m[group] == nil {
				m[group] = map[string]any{}
			}
			m = m[group].(map[string]any)
		}
		m[path[len(path)-1]] = value
	}
	return top, nil
}

type namedBytes []byte

type brokenText struct{}

func (brokenText) MarshalText() ([]byte, error) { return nil, errFull }

// panics is a value that cannot be logged.
type panics struct{ n int }

func (p *panics) String() string { return fmt.Sprint(p.n) }

// nilText has a method that a nil pointer does not stand.
type nilText struct{ n int }

func (p *nilText) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(p.n)), nil }

// bomb panics in a way that fmt does not catch.
type bomb struct{}

func (bomb) MarshalText() ([]byte, error) { panic("bang") }

type lazy struct{}

func (lazy) LogValue() slog.Value { return slog.GroupValue(slog.Int("a", 1), slog.Int("b", 2)) }

// The part after the message is what slog's text handler writes, to the byte.
func TestJournalLineIsSlogText(t *testing.T) {
	for _, attrs := range [][]any{
		{}, {"a", "plain"}, {"a", ""}, {"a", "two words"}, {"a", `"q"`}, {"a", "x=y"}, {"a", `back\slash`}, {"a", "nl\n"}, {"a", "\x1b[31m"},
		{"a", "\xff"}, {"a", "\u00a0"}, {"a", "\u2028"}, {"a", "grün"}, {"a", "\ufffd"}, {"a", "<3>"},
		{"a key", 1}, {"a", nil}, {"a", -5}, {"a", uint64(1 << 63)}, {"a", 1.5}, {"a", true}, {"a", time.Minute},
		{"a", time.Date(2024, 2, 29, 1, 2, 3, 456789000, time.UTC)}, {"a", netip.MustParseAddrPort("[::1]:80")}, {"a", errFull},
		{"a", []byte("by tes")}, {"a", namedBytes("x y")}, {"a", []string{"x", "y"}}, {"a", struct{ X, Y int }{1, 2}}, {"a", map[string]int{"k": 1}},
		{"a", brokenText{}}, {"a", (*panics)(nil)}, {"a", (*nilText)(nil)}, {"a", bomb{}}, {"a", lazy{}}, {"", lazy{}},
		{slog.Group("g", "x", 1, slog.Group("h", "y", 2), slog.Group("empty"))}, {slog.Group("", "in", 1)}, {slog.Attr{}}, {"odd"},
	} {
		record := slog.NewRecord(time.Time{}, slog.LevelInfo, "m", 0)
		record.Add(attrs...)
		var got, want bytes.Buffer
		theirs := slog.NewTextHandler(&want, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		}})
		handle := func(h slog.Handler) {
			h = h.WithAttrs([]slog.Attr{slog.Int("w", 1)}).WithGroup("with")
			if err := h.Handle(context.Background(), record); err != nil {
				t.Error(err)
			}
		}
		handle(theirs)
		handle(newJournalHandler(&got, nil, nil, ""))
		if got, want := strings.TrimPrefix(got.String(), "<6>m "), want.String(); got != want {
			t.Errorf("%v:\ngot  %s\nwant %s", attrs, got, want)
		}
	}
}

func TestJournalMessageStaysInItsLine(t *testing.T) {
	log, b, _ := journalLog(t, nil)
	for _, tt := range [][2]string{
		{"a message: 100 % \"quoted\" = fine, grün", "<6>a message: 100 % \"quoted\" = fine, grün\n"},
		{"one\n<0>two", "<6>\"one\\n<0>two\"\n"},
		{"\x1b[31m", "<6>\"\\x1b[31m\"\n"},
		{"", "<6>\n"},
	} {
		b.Reset()
		log.Info(tt[0])
		if b.String() != tt[1] {
			t.Errorf("got %q, want %q", b, tt[1])
		}
	}
}

func TestEvents(t *testing.T) {
	ids, names := map[string]bool{}, map[string]bool{}
	for _, e := range Events {
		if !isID(e.ID) || strings.ToLower(e.ID) != e.ID || ids[e.ID] {
			t.Errorf("%s: ID %q is not of its own, or not one", e.Name, e.ID)
		}
		if e.Name == "" || names[e.Name] {
			t.Errorf("name %q is not of its own", e.Name)
		}
		ids[e.ID], names[e.Name] = true, true
	}
}

func FuzzNative(f *testing.F) {
	f.Add("listener.name", "web", "two\nlines")
	f.Add("__", "=", "")
	f.Add("ß", "\n", "\x00\xff")
	f.Fuzz(func(t *testing.T, name, first, second string) {
		h := newJournalHandler(io.Discard, nil, nil, "")
		h.id = EventReady
		h.fields = []field{{name, first}, {name, second}}
		fields, err := parseNative(h.record(appendText(nil, first, h.fields), slog.LevelInfo))
		if err != nil {
			t.Fatal(err)
		}
		key := nativeName(name)
		if key != "" && key != "BELAY_EPOCH" && !slices.Equal(fields[key], []string{first, second}) {
			t.Errorf("%s is %q", key, fields[key])
		}
		if m := fields["MESSAGE"]; len(m) != 1 || strings.Contains(m[0], "\n") {
			t.Errorf("MESSAGE is %q", m)
		}
		for k := range fields {
			if k == "" || len(k) > nativeMax || strings.Trim(k, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || k[0] == '_' || k[0] >= '0' && k[0] <= '9' {
				t.Errorf("journald does not take %q", k)
			}
		}
	})
}
