package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

const (
	journalSocket    = "/run/systemd/journal/socket"
	syslogIdentifier = "belayd" // journald would show the name of the thread instead
)

// OnJournal reports whether stderr is a stream of the journal, which then adds
// the time and understands priorities (JOURNAL_STREAM, systemd.exec(5)).
func OnJournal() bool {
	on, err := journal.StderrIsJournalStream()
	return on && err == nil
}

// journalHandler is what NewJournalHandler makes. What it has of attributes is
// never changed: a handler made of another has a copy.
type journalHandler struct {
	stream *stream
	level  slog.Leveler
	epoch  func() uint64
	prefix string // of names, from WithGroup; ends with a dot
	fields []field
	id     string // from WithAttrs
}

// stream is what the handlers made of one share.
type stream struct {
	native string // the journal's socket

	mu      sync.Mutex // guards what follows
	w       io.Writer
	journal *datagram // nil until first used
}

// NewJournalHandler is a handler for log records that journald reads. A record is
// a line, one Write
//
//	<6>message key=value group.key="a value"
//
// on w, where the number is the priority (sd-daemon(3)) and the rest is as slog's
// text handler has it; the journal has the time. An event, that is a record with
// an attribute MessageID of 32 hexadecimal digits, does not go to w but to the
// journal's own socket (Journal Native Protocol), with these fields:
//
//	MESSAGE            the same line, without the ID
//	PRIORITY           7 for debug, 6 info, 4 warning, 3 error
//	MESSAGE_ID         the ID
//	SYSLOG_IDENTIFIER  belayd
//	BELAY_EPOCH        epoch of the process
//	BELAY_NAME         each other attribute: group_key is BELAY_GROUP_KEY
//
// A name longer than 64 bytes is cut there. An attribute epoch is in the line
// only, lest BELAY_EPOCH have two values. An event that the socket does not take
// within a second becomes a line on w.
//
// level nil is slog.LevelInfo. epoch is called for each event, from any goroutine;
// nil leaves the field out. w is written to by one goroutine at a time.
func NewJournalHandler(w io.Writer, level slog.Leveler, epoch func() uint64) slog.Handler {
	return newJournalHandler(w, level, epoch, journalSocket)
}

func newJournalHandler(w io.Writer, level slog.Leveler, epoch func() uint64, native string) *journalHandler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &journalHandler{stream: &stream{w: w, native: native}, level: level, epoch: epoch}
}

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithGroup implements slog.Handler.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.fields = slices.Clip(c.fields)
	for _, a := range attrs {
		c.add(c.prefix, a)
	}
	return &c
}

// Handle implements slog.Handler.
func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	c := *h
	c.fields = slices.Clip(c.fields)
	r.Attrs(func(a slog.Attr) bool {
		c.add(c.prefix, a)
		return true
	})
	text := appendText(nil, r.Message, c.fields)
	if c.id != "" && h.stream.sendNative(c.record(text, r.Level)) == nil {
		return nil
	}
	line := append(strconv.AppendInt([]byte("<"), int64(priority(r.Level)), 10), '>')
	return h.stream.writeLine(append(append(line, text...), '\n'))
}

// add appends an attribute, a group as its members.
func (h *journalHandler) add(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			h.add(prefix, member)
		}
	case a.Key == "" && v.Equal(slog.Value{}):
	case a.Key == MessageID && v.Kind() == slog.KindString && isID(v.String()):
		h.id = v.String()
	default:
		h.fields = append(h.fields, field{name: prefix + a.Key, value: valueText(v)})
	}
}

// record is the event as the journal's socket wants it.
func (h *journalHandler) record(text []byte, l slog.Level) []byte {
	b := appendNative(nil, "MESSAGE", string(text))
	b = appendNative(b, "PRIORITY", strconv.Itoa(int(priority(l))))
	b = appendNative(b, "MESSAGE_ID", h.id)
	b = appendNative(b, "SYSLOG_IDENTIFIER", syslogIdentifier)
	if h.epoch != nil {
		b = appendNative(b, "BELAY_EPOCH", strconv.FormatUint(h.epoch(), 10))
	}
	for _, f := range h.fields {
		if name := nativeName(f.name); name != "" && name != "BELAY_EPOCH" {
			b = appendNative(b, name, f.value)
		}
	}
	return b
}

// priority is the syslog level of a record, at most as severe as its own.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

func (s *stream) writeLine(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(line)
	return err
}

// sendNative sends a record to the journal's socket; one too large for a datagram
// as a file.
func (s *stream) sendNative(record []byte) error {
	d, err := s.open()
	if err != nil {
		return err
	}
	err = d.send(record)
	if err != unix.EMSGSIZE && err != unix.ENOBUFS {
		return err
	}
	fd, err := sealed(record)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return d.send(nil, fd)
}

func (s *stream) open() (*datagram, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		d, err := newDatagram(s.native)
		if err != nil {
			return nil, err
		}
		s.journal = d
	}
	return s.journal, nil
}

// sealed puts b into a memfd with the seals without which journald would not map
// it. The descriptor is the caller's.
func sealed(b []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("belay-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for len(b) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, b); err == unix.EINTR {
			n, err = 0, nil
		}
		b = b[max(n, 0):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fill and seal a memfd: %w", err)
	}
	return fd, nil
}
