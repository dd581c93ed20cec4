package config

// The raw tables of TLS: those of a listener, of one of its chains, and of a
// cluster.

type rawTLS struct {
	Certificates     []rawCertificate `toml:"certificates"`
	MinVersion       *tlsVersion      `toml:"min_version"`
	MaxVersion       *tlsVersion      `toml:"max_version"`
	CipherSuites     []cipherSuite    `toml:"cipher_suites"`
	Curves           []curve          `toml:"curves"`
	ALPN             []alpnName       `toml:"alpn"`
	OCSPPolicy       *string          `toml:"ocsp_policy" one:"lenient strict must_staple"`
	HandshakeTimeout *duration        `toml:"handshake_timeout" min:"100ms" max:"10m"`
	Client           rawClientCert    `toml:"client_certificate"`
	Tickets          rawTickets       `toml:"tickets"`
}

type rawCertificate struct {
	Name  *string      `toml:"name"`
	Cert  *secretFile  `toml:"cert"`
	Key   *secretFile  `toml:"key"`
	OCSP  *secretFile  `toml:"ocsp"`
	Names []serverName `toml:"names"`
}

type rawClientCert struct {
	Mode           *string      `toml:"mode" one:"none request require"`
	CA             *secretFile  `toml:"ca"`
	CRL            *secretFile  `toml:"crl"`
	CRLExpired     *string      `toml:"crl_expired" one:"refuse accept"`
	SAN            []rawSAN     `toml:"san"`
	SPKI           []pin        `toml:"spki_sha256"`
	Certificate    []pin        `toml:"certificate_sha256"`
	Forward        *string      `toml:"forward" one:"sanitize forward_only append_forward sanitize_set always_forward_only"`
	ForwardDetails []certDetail `toml:"forward_details"`
	ClientCert     *bool        `toml:"client_cert_header"`
}

type rawTickets struct {
	Enabled  *bool       `toml:"enabled"`
	Secret   *secretFile `toml:"secret"`
	Rotation *duration   `toml:"rotation" min:"1m" max:"168h"`
}

type rawSAN struct {
	Type     *string  `toml:"type" one:"dns uri email ip"`
	Exact    *string  `toml:"exact"`
	Prefix   *string  `toml:"prefix"`
	Suffix   *string  `toml:"suffix"`
	Contains *string  `toml:"contains"`
	Regex    *pattern `toml:"regex"`
}

type rawChain struct {
	Name        *string      `toml:"name"`
	ServerNames []serverName `toml:"server_names"`
	Sources     []prefix     `toml:"sources"`
	Ports       []int        `toml:"ports" min:"1" max:"65535"`
	ALPN        []alpnName   `toml:"alpn"`
	TLS         *rawTLS      `toml:"tls"`
	Passthrough *bool        `toml:"passthrough"`
	Cluster     *string      `toml:"cluster"`
}

type rawClusterTLS struct {
	Verify           *bool         `toml:"verify"`
	CA               *secretFile   `toml:"ca"`
	SNI              *upstreamSNI  `toml:"sni"`
	SAN              []rawSAN      `toml:"san"`
	SPKI             []pin         `toml:"spki_sha256"`
	Certificate      []pin         `toml:"certificate_sha256"`
	Cert             *secretFile   `toml:"cert"`
	Key              *secretFile   `toml:"key"`
	ALPN             []alpnName    `toml:"alpn"`
	MinVersion       *tlsVersion   `toml:"min_version"`
	MaxVersion       *tlsVersion   `toml:"max_version"`
	CipherSuites     []cipherSuite `toml:"cipher_suites"`
	Curves           []curve       `toml:"curves"`
	Sessions         *int          `toml:"sessions" min:"0" max:"1000000"`
	HandshakeTimeout *duration     `toml:"handshake_timeout" min:"100ms" max:"10m"`
	StartTLS         *string       `toml:"starttls" one:"none postgres"`
}
