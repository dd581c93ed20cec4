package main

import (
	"fmt"
	"strings"

	"belay/internal/header"
)

// A setup prepares a case for a library and returns what to measure: run does
// the operation n times.
type setup func(size int) (run func(n int))

type library struct {
	name   string
	setups map[string]setup
}

// spec is one case: the rows of Envoy's header_map_impl_speed_test.cc by their
// names there, then what hyperium/http adds, then the way of a request head.
type spec struct {
	name  string
	sizes []int // dummy fields, or 0 alone
	group string
}

var dummies = []int{0, 1, 5, 10, 50}

var specs = []spec{
	{"Create", []int{0}, "Envoy"},
	{"SetReference", dummies, "Envoy"},
	{"Get", dummies, "Envoy"},
	{"GetInline", dummies, "Envoy"},
	{"SetInlineMacro", dummies, "Envoy"},
	{"SetInlineInteger", dummies, "Envoy"},
	{"GetByteSize", dummies, "Envoy"},
	{"Iterate", dummies, "Envoy"},
	{"Remove", dummies, "Envoy"},
	{"RemoveInline", dummies, "Envoy"},
	{"Populate", []int{0}, "Envoy"},
	{"EmulateH1toH2Upgrade", dummies, "Envoy"},
	{"EmulateH2toH1Upgrade", dummies, "Envoy"},
	{"RemovePrefix", dummies, "Envoy"},
	{"StaticLookupRequestHits", []int{0}, "Envoy"},
	{"StaticLookupRequestMisses", []int{0}, "Envoy"},
	{"StaticLookupResponseHits", []int{0}, "Envoy"},
	{"StaticLookupResponseMisses", []int{0}, "Envoy"},
	{"insert_custom", []int{100, 500}, "hyperium"},
	{"set_10_get_1_custom_short", []int{0}, "hyperium"},
	{"set_10_get_1_custom_long", []int{0}, "hyperium"},
	{"set_10_get_1_custom_very_long", []int{0}, "hyperium"},
	{"set_8_get_many", []int{0}, "hyperium"},
	{"set_8_get_miss", []int{0}, "hyperium"},
	{"Parse", []int{0}, "head"},
	{"Serialise", []int{0}, "head"},
	{"ParseEditSerialise", []int{0}, "head"},
}

// title returns the name of a row.
func (s spec) title(size int) string {
	if len(s.sizes) == 1 {
		return s.name
	}
	return fmt.Sprintf("%s(%d)", s.name, size)
}

const (
	customKey   = "example-key"
	customValue = "01234567890123456789"
	upgrade     = "upgrade"
	websocket   = "websocket"
)

func dummyKey(i int) string { return fmt.Sprintf("dummy-key-%d", i) }

type pair struct{ name, value string }

// response is what Populate adds to an empty map.
var response = []pair{
	{"Cache-Control", "max-age=0, private, must-revalidate"},
	{"Content-Encoding", "gzip"},
	{"Content-Type", "text/html; charset=utf-8"},
	{"Content-Length", "19436"},
	{"Date", "Wed, 23 Jan 2019 04:00:00 GMT"},
	{"Etag", `"cd1f2f5b8a3e4c0d"`},
	{"Last-Modified", "Tue, 22 Jan 2019 04:00:00 GMT"},
	{"Location", "https://www.example.com/a/rather/long/path"},
	{"Server", "backend"},
	{"Vary", "Accept-Encoding, User-Agent"},
	{"Set-Cookie", "_cookie1=12345678; path=/; secure"},
	{"Set-Cookie", "_cookie2=12345678; path=/; secure"},
	{"X-Custom-One", "hello world"},
	{"X-Custom-Two", "hello world and more of it"},
	{"X-Custom-Three", "1"},
}

var requestNames = lower(header.Connection, header.ContentType, header.KeepAlive, header.ProxyConnection, header.XRequestID,
	header.TransferEncoding, header.Upgrade, header.Via, header.ContentLength, header.Accept, header.AcceptEncoding,
	header.AcceptLanguage, header.Authorization, header.CacheControl, header.Cookie, header.Expect, header.Host,
	header.XForwardedFor, header.XForwardedHost, header.XForwardedProto, header.Origin, header.Referer, header.TE, header.UserAgent)

var responseNames = lower(header.Connection, header.ContentType, header.KeepAlive, header.ProxyConnection, header.XRequestID,
	header.TransferEncoding, header.Upgrade, header.Via, header.ContentLength, header.Age, header.CacheControl, header.Date,
	header.ETag, header.Location, header.Server, header.SetCookie, header.Vary)

func lower(hs ...header.Handle) []string {
	var names []string
	for _, h := range hs {
		names = append(names, strings.ToLower(h.String()))
	}
	return names
}

var (
	requestMisses  = []string{"x-envoy-retry-onn", "x-forwarded-fo", "x-forwarded-prot0", "content-lengthz", "cookies", "hostt", "user-agenu"}
	responseMisses = []string{"content-typ", "dat", "datf", "servers", "locatiom", "set-cookies", "transfer-encodinh"}
)

// The names of hyperium's custom headers.
func customs(n int, format string) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(format, i)
	}
	return names
}

const (
	shortName    = "x-s%02d"
	longName     = "x-a-rather-long-name-for-a-header-field-number-%02d"
	insertName   = "x-custom-field-%03d"
	standardMiss = "If-None-Match"
)

var veryLongName = "x-" + strings.Repeat("very-", 30) + "long-%02d"

// eight are the fields of set_8.
var eight = []pair{
	{"Accept", "*/*"}, {"Accept-Encoding", "gzip"}, {"Host", "www.example.com"}, {"User-Agent", "curl/8.5.0"},
	{"Connection", "close"}, {"Cache-Control", "no-cache"}, {"Content-Length", "12"}, {"Content-Type", "text/plain"},
}

var eightMany = []string{"Host", "Content-Type", "User-Agent", "Accept", "Content-Length", "Connection"}

// browser is a request's fields, with the empty line.
const browser = "Host: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef; theme=dark\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"X-Custom-Tracking: 7f8a9b\r\n" +
	"Cache-Control: max-age=0\r\n\r\n"

const (
	clientIP  = "192.0.2.17"
	requestID = "0123456789abcdef0123456789abcdef"
)

// Results go here, so that no call is optimised away.
var (
	sink      int
	sinkBytes []byte
)
