package main

import (
	"bufio"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// The control sequences that top needs; ECMA-48 and, for the second screen and
// the cursor, xterm's.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // second screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// terminal is a screen that top draws on and the keys pressed before it.
type terminal struct {
	out   *bufio.Writer
	size  func() (width, height int, err error)
	keys  <-chan byte // closed at the end of the input; nil: there is no keyboard
	reset func()
}

// openTerminal takes the screen over; nil if out is none that can be drawn on.
func openTerminal(in io.Reader, out io.Writer) *terminal {
	screen, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(screen.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	t := &terminal{
		out:   bufio.NewWriter(out),
		size:  func() (int, int, error) { return term.GetSize(int(screen.Fd())) },
		reset: func() {},
	}
	if keyboard, ok := in.(*os.File); ok && term.IsTerminal(int(keyboard.Fd())) {
		if state, err := term.MakeRaw(int(keyboard.Fd())); err == nil {
			t.reset = func() { term.Restore(int(keyboard.Fd()), state) }
			t.keys = readKeys(keyboard)
		}
	}
	t.out.WriteString(enterScreen)
	return t
}

// readKeys reads bytes until the input ends. The read cannot be ended otherwise,
// so the goroutine lives as long as the program.
func readKeys(in io.Reader) <-chan byte {
	keys := make(chan byte)
	go func() {
		defer close(keys)
		var b [1]byte
		for {
			if n, err := in.Read(b[:]); err != nil {
				return
			} else if n == 1 {
				keys <- b[0]
			}
		}
	}()
	return keys
}

// show draws l over what was there, line by line, so that nothing flickers.
func (t *terminal) show(l *load, note string) error {
	width, height, err := t.size()
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	t.out.WriteString(home)
	for i, line := range frame(l, height, note) {
		if i > 0 {
			t.out.WriteString("\r\n") // raw mode returns no carriage
		}
		t.out.WriteString(clip(strings.TrimRight(line, " "), width))
		t.out.WriteString(eraseLine)
	}
	t.out.WriteString(eraseBelow)
	return t.out.Flush()
}

// close gives the screen back as it was.
func (t *terminal) close() {
	t.out.WriteString(leaveScreen)
	t.out.Flush()
	t.reset()
}
