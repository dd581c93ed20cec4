package header

// The names every belay knows. They are constants so that a codec can switch on them.
const (
	Host Handle = iota + 1
	Connection
	ContentLength
	TransferEncoding
	Upgrade
	Expect
	TE
	Trailer
	KeepAlive
	ProxyConnection
	ProxyAuthenticate
	ProxyAuthorization
	UserAgent
	Referer
	Accept
	AcceptCharset
	AcceptEncoding
	AcceptLanguage
	AcceptRanges
	Authorization
	WWWAuthenticate
	Cookie
	SetCookie
	ContentType
	ContentEncoding
	ContentLanguage
	ContentLocation
	ContentDisposition
	ContentRange
	ContentSecurityPolicy
	Location
	Server
	Date
	Via
	Vary
	CacheControl
	Pragma
	ETag
	Expires
	LastModified
	IfModifiedSince
	IfUnmodifiedSince
	IfMatch
	IfNoneMatch
	IfRange
	Range
	Age
	Allow
	RetryAfter
	Link
	Warning
	Origin
	Priority
	Forwarded
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XForwardedPort
	XForwardedClientCert
	ClientCert
	ClientCertChain
	XRealIP
	XRequestID
	XFrameOptions
	XContentTypeOptions
	XXSSProtection
	XPoweredBy
	StrictTransportSecurity
	AccessControlAllowOrigin
	AccessControlAllowMethods
	AccessControlAllowHeaders
	AccessControlAllowCredentials
	AccessControlExposeHeaders
	AccessControlMaxAge
	AccessControlRequestMethod
	AccessControlRequestHeaders
	HTTP2Settings
	SecWebSocketKey
	SecWebSocketAccept
	SecWebSocketVersion
	SecWebSocketProtocol
	SecWebSocketExtensions
	SecFetchMode
	SecFetchSite
	SecFetchDest
	SecFetchUser
	UpgradeInsecureRequests
	Traceparent
	Tracestate
	AltSvc
)

// builtin has the names in the order of the constants.
var builtin = []field{
	{},
	Host:                          {"Host", Reject},
	Connection:                    {"Connection", List},
	ContentLength:                 {"Content-Length", Separate},
	TransferEncoding:              {"Transfer-Encoding", List},
	Upgrade:                       {"Upgrade", List},
	Expect:                        {"Expect", List},
	TE:                            {"TE", List},
	Trailer:                       {"Trailer", List},
	KeepAlive:                     {"Keep-Alive", List},
	ProxyConnection:               {"Proxy-Connection", List},
	ProxyAuthenticate:             {"Proxy-Authenticate", List},
	ProxyAuthorization:            {"Proxy-Authorization", Reject},
	UserAgent:                     {"User-Agent", List},
	Referer:                       {"Referer", List},
	Accept:                        {"Accept", List},
	AcceptCharset:                 {"Accept-Charset", List},
	AcceptEncoding:                {"Accept-Encoding", List},
	AcceptLanguage:                {"Accept-Language", List},
	AcceptRanges:                  {"Accept-Ranges", List},
	Authorization:                 {"Authorization", Reject},
	WWWAuthenticate:               {"WWW-Authenticate", Separate},
	Cookie:                        {"Cookie", Crumbs},
	SetCookie:                     {"Set-Cookie", Separate},
	ContentType:                   {"Content-Type", Reject},
	ContentEncoding:               {"Content-Encoding", List},
	ContentLanguage:               {"Content-Language", List},
	ContentLocation:               {"Content-Location", List},
	ContentDisposition:            {"Content-Disposition", List},
	ContentRange:                  {"Content-Range", List},
	ContentSecurityPolicy:         {"Content-Security-Policy", List},
	Location:                      {"Location", List},
	Server:                        {"Server", List},
	Date:                          {"Date", List},
	Via:                           {"Via", List},
	Vary:                          {"Vary", List},
	CacheControl:                  {"Cache-Control", List},
	Pragma:                        {"Pragma", List},
	ETag:                          {"ETag", List},
	Expires:                       {"Expires", List},
	LastModified:                  {"Last-Modified", List},
	IfModifiedSince:               {"If-Modified-Since", Reject},
	IfUnmodifiedSince:             {"If-Unmodified-Since", Reject},
	IfMatch:                       {"If-Match", List},
	IfNoneMatch:                   {"If-None-Match", List},
	IfRange:                       {"If-Range", Reject},
	Range:                         {"Range", List},
	Age:                           {"Age", List},
	Allow:                         {"Allow", List},
	RetryAfter:                    {"Retry-After", List},
	Link:                          {"Link", List},
	Warning:                       {"Warning", List},
	Origin:                        {"Origin", List},
	Priority:                      {"Priority", List},
	Forwarded:                     {"Forwarded", List},
	XForwardedFor:                 {"X-Forwarded-For", List},
	XForwardedProto:               {"X-Forwarded-Proto", List},
	XForwardedHost:                {"X-Forwarded-Host", List},
	XForwardedPort:                {"X-Forwarded-Port", List},
	XForwardedClientCert:          {"X-Forwarded-Client-Cert", List},
	ClientCert:                    {"Client-Cert", List},
	ClientCertChain:               {"Client-Cert-Chain", List},
	XRealIP:                       {"X-Real-IP", List},
	XRequestID:                    {"X-Request-Id", List},
	XFrameOptions:                 {"X-Frame-Options", List},
	XContentTypeOptions:           {"X-Content-Type-Options", List},
	XXSSProtection:                {"X-XSS-Protection", List},
	XPoweredBy:                    {"X-Powered-By", List},
	StrictTransportSecurity:       {"Strict-Transport-Security", List},
	AccessControlAllowOrigin:      {"Access-Control-Allow-Origin", List},
	AccessControlAllowMethods:     {"Access-Control-Allow-Methods", List},
	AccessControlAllowHeaders:     {"Access-Control-Allow-Headers", List},
	AccessControlAllowCredentials: {"Access-Control-Allow-Credentials", List},
	AccessControlExposeHeaders:    {"Access-Control-Expose-Headers", List},
	AccessControlMaxAge:           {"Access-Control-Max-Age", List},
	AccessControlRequestMethod:    {"Access-Control-Request-Method", List},
	AccessControlRequestHeaders:   {"Access-Control-Request-Headers", List},
	HTTP2Settings:                 {"HTTP2-Settings", Reject},
	SecWebSocketKey:               {"Sec-WebSocket-Key", List},
	SecWebSocketAccept:            {"Sec-WebSocket-Accept", List},
	SecWebSocketVersion:           {"Sec-WebSocket-Version", List},
	SecWebSocketProtocol:          {"Sec-WebSocket-Protocol", List},
	SecWebSocketExtensions:        {"Sec-WebSocket-Extensions", List},
	SecFetchMode:                  {"Sec-Fetch-Mode", List},
	SecFetchSite:                  {"Sec-Fetch-Site", List},
	SecFetchDest:                  {"Sec-Fetch-Dest", List},
	SecFetchUser:                  {"Sec-Fetch-User", List},
	UpgradeInsecureRequests:       {"Upgrade-Insecure-Requests", List},
	Traceparent:                   {"traceparent", List},
	Tracestate:                    {"tracestate", List},
	AltSvc:                        {"Alt-Svc", List},
}
