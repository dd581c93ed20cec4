package main

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Keys that a program has as constants are given in canonical case, which
// net/http looks up without rewriting them.
var nethttp = library{"net/http", map[string]setup{
	"Create":                        httpCreate,
	"SetReference":                  httpSet("Example-Key"),
	"Get":                           httpGet("Example-Key"),
	"GetInline":                     httpGet("Connection"),
	"SetInlineMacro":                httpSet("Connection"),
	"SetInlineInteger":              httpSetInteger,
	"GetByteSize":                   httpByteSize,
	"Iterate":                       httpIterate,
	"Remove":                        httpRemove("Example-Key"),
	"RemoveInline":                  httpRemove("Connection"),
	"Populate":                      httpPopulate,
	"EmulateH1toH2Upgrade":          httpH1toH2,
	"EmulateH2toH1Upgrade":          httpH2toH1,
	"RemovePrefix":                  httpRemovePrefix,
	"StaticLookupRequestHits":       httpLookup(requestNames),
	"StaticLookupRequestMisses":     httpLookup(requestMisses),
	"StaticLookupResponseHits":      httpLookup(responseNames),
	"StaticLookupResponseMisses":    httpLookup(responseMisses),
	"insert_custom":                 httpInsert,
	"set_10_get_1_custom_short":     httpSet10(shortName),
	"set_10_get_1_custom_long":      httpSet10(longName),
	"set_10_get_1_custom_very_long": httpSet10(veryLongName),
	"set_8_get_many":                httpSet8(eightMany),
	"set_8_get_miss":                httpSet8([]string{standardMiss}),
	"Parse":                         httpParse,
	"Serialise":                     httpSerialise,
	"ParseEditSerialise":            httpProxy,
}}

var sinkHeader http.Header

func httpFilled(size int) http.Header {
	h := make(http.Header)
	for i := range size {
		h.Add(dummyKey(i), "abcd")
	}
	return h
}

func httpCreate(int) func(int) {
	return func(n int) {
		for range n {
			sinkHeader = make(http.Header)
		}
	}
}

func httpSet(key string) setup {
	return func(size int) func(int) {
		h := httpFilled(size)
		return func(n int) {
			for range n {
				h.Set(key, customValue)
			}
		}
	}
}

func httpGet(key string) setup {
	return func(size int) func(int) {
		h := httpFilled(size)
		h.Set(key, customValue)
		return func(n int) {
			for range n {
				sink += len(h.Get(key))
			}
		}
	}
}

func httpSetInteger(size int) func(int) {
	h := httpFilled(size)
	i := 0
	return func(n int) {
		for range n {
			i++
			h.Set("Content-Length", strconv.Itoa(i))
		}
	}
}

func httpByteSize(size int) func(int) {
	h := httpFilled(size)
	return func(n int) {
		for range n {
			for name, values := range h {
				for _, v := range values {
					sink += len(name) + len(v) + 4
				}
			}
		}
	}
}

func httpLengths(h http.Header) int {
	sum := 0
	for name, values := range h {
		for _, v := range values {
			sum += len(name) + len(v)
		}
	}
	return sum
}

func httpIterate(size int) func(int) {
	h := httpFilled(size)
	return func(n int) {
		for range n {
			sink += httpLengths(h)
		}
	}
}

func httpRemove(key string) setup {
	return func(size int) func(int) {
		h := httpFilled(size)
		return func(n int) {
			for range n {
				h.Add(key, customValue)
				h.Del(key)
			}
		}
	}
}

func httpPopulate(int) func(int) {
	return func(n int) {
		for range n {
			h := make(http.Header)
			for i := range response {
				h.Add(response[i].name, response[i].value)
			}
			sinkHeader = h
		}
	}
}

func httpH1toH2(size int) func(int) {
	base := httpFilled(size)
	base.Set("Connection", upgrade)
	base.Set("Upgrade", websocket)
	return func(n int) {
		for range n {
			h := base.Clone()
			h.Set("X-Method", "CONNECT")
			h.Set("X-Protocol", websocket)
			h.Del("Upgrade")
			h.Del("Connection")
			sink += httpLengths(h)
		}
	}
}

func httpH2toH1(size int) func(int) {
	base := httpFilled(size)
	base.Set("X-Status", "200")
	return func(n int) {
		for range n {
			h := base.Clone()
			h.Set("Upgrade", websocket)
			h.Set("Connection", upgrade)
			h.Set("X-Status", "101")
			sink += httpLengths(h)
		}
	}
}

func httpRemovePrefix(size int) func(int) {
	h := httpFilled(80)
	keys := customs(size, "Prefix-Key-%d")
	return func(n int) {
		for range n {
			for _, key := range keys {
				h.Add(key, "abcd")
			}
			for key := range h {
				if strings.HasPrefix(key, "Prefix-") {
					delete(h, key)
				}
			}
		}
	}
}

// httpLookup is the step that takes the place of a handle in net/http: the
// canonical name, from a table for common ones.
func httpLookup(names []string) setup {
	return func(int) func(int) {
		return func(n int) {
			for range n {
				for _, name := range names {
					sink += len(textproto.CanonicalMIMEHeaderKey(name))
				}
			}
		}
	}
}

func httpInsert(size int) func(int) {
	names := customs(size, insertName)
	return func(n int) {
		for range n {
			h := make(http.Header)
			for _, name := range names {
				h.Set(name, "v")
			}
			sinkHeader = h
		}
	}
}

func httpSet10(format string) setup {
	return func(int) func(int) {
		names := customs(10, format)
		return func(n int) {
			for range n {
				h := make(http.Header)
				for _, name := range names {
					h.Set(name, "v")
				}
				sink += len(h.Get(names[0]))
			}
		}
	}
}

func httpSet8(get []string) setup {
	return func(int) func(int) {
		return func(n int) {
			for range n {
				h := make(http.Header)
				for i := range eight {
					h.Set(eight[i].name, eight[i].value)
				}
				for _, name := range get {
					sink += len(h.Get(name))
				}
			}
		}
	}
}

// reader gives the same head again and again through one buffer.
type reader struct {
	src *bytes.Reader
	buf *bufio.Reader
	raw []byte
}

func newReader(head string) *reader {
	r := &reader{src: bytes.NewReader(nil), raw: []byte(head)}
	r.buf = bufio.NewReaderSize(r.src, 4096)
	return r
}

func (r *reader) rewind() *bufio.Reader {
	r.src.Reset(r.raw)
	r.buf.Reset(r.src)
	return r.buf
}

func httpLoad(r *reader) http.Header {
	h, err := textproto.NewReader(r.rewind()).ReadMIMEHeader()
	check(err)
	return http.Header(h)
}

func httpParse(int) func(int) {
	r := newReader(browser)
	return func(n int) {
		for range n {
			sinkHeader = httpLoad(r)
		}
	}
}

func httpSerialise(int) func(int) {
	h := httpLoad(newReader(browser))
	var buf bytes.Buffer
	return func(n int) {
		for range n {
			buf.Reset()
			check(h.Write(&buf))
		}
	}
}

func httpProxy(int) func(int) {
	r := newReader(browser)
	var buf bytes.Buffer
	return func(n int) {
		for range n {
			h := httpLoad(r)
			sink += len(h.Get("Host")) + len(h.Get("Upgrade")) + len(h.Get("Content-Length"))
			h.Del("Connection")
			if old := h.Get("X-Forwarded-For"); old == "" {
				h.Set("X-Forwarded-For", clientIP)
			} else {
				h.Set("X-Forwarded-For", old+", "+clientIP)
			}
			h.Set("X-Forwarded-Proto", "https")
			h.Set("X-Request-Id", requestID)
			buf.Reset()
			check(h.Write(&buf))
		}
	}
}
