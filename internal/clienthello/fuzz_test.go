package clienthello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
)

// byteConn is a connection that gives bytes and then ends.
type byteConn struct {
	net.Conn // nil: crypto/tls uses nothing else before the handshake ends
	r        *bytes.Reader
}

func (c byteConn) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c byteConn) Write(b []byte) (int, error) { return len(b), nil }
func (c byteConn) Close() error                { return nil }

var errEnough = errors.New("enough")

// viewOfTLS returns what crypto/tls reads in a hello; nil if it gets to none.
func viewOfTLS(in []byte) (*tls.ClientHelloInfo, error) {
	var view *tls.ClientHelloInfo
	err := tls.Server(byteConn{r: bytes.NewReader(in)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			view = info
			return nil, errEnough
		},
	}).Handshake()
	return view, err
}

// wholeRecords reports whether in, from the hello on, is cut between records:
// crypto/tls waits for the end of a record, Parse only for that of the message.
func wholeRecords(in []byte, h *Hello) bool { return len(in)-h.scan.pos >= h.scan.left }

// checked are extensions into which crypto/tls looks and Parse does not.
var checked = []uint16{5, 11, 41, 44, 45, 50, 51, 57, 0xff01, 0xfe0d}

// stricter are the reasons for which only Parse refuses, beside NotTLS for a
// record version below 3.0 or an alert in front, and TooBig.
var stricter = []string{"bad-session-id", "bad-cipher-suites", "bad-compression-methods", "too-many-extensions", "record-between"}

func compareWithTLS(t *testing.T, in []byte) {
	h := new(Hello)
	status := Parse(in, h)
	info, err := viewOfTLS(in)
	if status != Done {
		if info != nil && status != TooBig && !(status == Malformed && slices.Contains(stricter, h.Reason)) &&
			!(status == NotTLS && (in[0] == 0x15 || in[1] != 3)) {
			t.Fatalf("%v %q, but crypto/tls reads it", status, h.Reason)
		}
		return
	}
	if info == nil {
		known := true
		for e := range h.Extensions.All() {
			known = known && !slices.Contains(checked, e)
		}
		if known && wholeRecords(in, h) && !bytes.HasSuffix(h.RawName, []byte(".")) && !errors.Is(err, io.ErrNoProgress) {
			t.Fatalf("crypto/tls refuses it: %v\n%s", err, h.describe())
		}
		return
	}
	compareViews(t, h, info)
}

func compareViews(t *testing.T, h *Hello, info *tls.ClientHelloInfo) {
	var alpn []string
	for p := range h.ALPN.All() {
		alpn = append(alpn, string(p))
	}
	var extensions []uint16
	for e := range h.Extensions.All() {
		extensions = append(extensions, e)
	}
	switch {
	case info.ServerName != string(h.RawName):
		t.Errorf("name %q, crypto/tls %q", h.RawName, info.ServerName)
	case !slices.Equal(alpn, info.SupportedProtos):
		t.Errorf("ALPN %q, crypto/tls %q", alpn, info.SupportedProtos)
	case !slices.Equal(extensions, info.Extensions):
		t.Errorf("extensions %v, crypto/tls %v", extensions, info.Extensions)
	case !equal(h.Ciphers, info.CipherSuites):
		t.Errorf("suites %x, crypto/tls %x", []byte(h.Ciphers), info.CipherSuites)
	case !equal(h.Groups, info.SupportedCurves):
		t.Errorf("groups %x, crypto/tls %x", []byte(h.Groups), info.SupportedCurves)
	case !equal(h.SigAlgs, info.SignatureSchemes):
		t.Errorf("algorithms %x, crypto/tls %x", []byte(h.SigAlgs), info.SignatureSchemes)
	case len(h.Versions) > 0 && !equal(h.Versions, info.SupportedVersions):
		t.Errorf("versions %x, crypto/tls %x", []byte(h.Versions), info.SupportedVersions)
	}
}

func equal[T ~uint16](l List, want []T) bool {
	if l.Len() != len(want) {
		return false
	}
	for i, v := range want {
		if l.At(i) != uint16(v) || !l.Has(uint16(v)) {
			return false
		}
	}
	return true
}

func TestCapturesAsTLSReadsThem(t *testing.T) {
	for _, c := range captures {
		compareWithTLS(t, c.bytes(t))
	}
	for _, c := range malformedRows {
		compareWithTLS(t, c.in)
	}
}

// Parse gives the same in whatever pieces a hello comes, and reads it as
// crypto/tls does; a name that is valid is one.
func FuzzParse(f *testing.F) {
	for _, c := range captures {
		f.Add(c.bytes(f), uint16(0), uint16(100))
		f.Add(c.bytes(f)[5:], uint16(50), uint16(700))
	}
	for _, c := range malformedRows {
		f.Add(c.in, uint16(0), uint16(3))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint16(0), uint16(2))
	f.Fuzz(func(t *testing.T, in []byte, size, split uint16) {
		if size > 0 { // of the records
			in = cut(in, min(int(size), maxRecord))
		}
		compareWithTLS(t, in)
		h, pieces := new(Hello), new(Hello)
		status := Parse(in, h)
		Parse(in[:min(int(split), len(in))], pieces)
		if got := Parse(bytes.Clone(in), pieces); got != status || pieces.describe() != h.describe() {
			t.Fatalf("in pieces %v\n%s\nat once %v\n%s", got, pieces.describe(), status, h.describe())
		}
		if status != Done {
			return
		}
		if (h.Name == NameValid) != (len(h.ServerName) > 0) || !bytes.Equal(h.ServerName, bytes.ToLower(h.ServerName)) {
			t.Errorf("name %v %q", h.Name, h.ServerName)
		}
		if ja4 := h.AppendJA4(nil); len(ja4) != MaxJA4 {
			t.Errorf("JA4 %q", ja4)
		}
	})
}
