package config

// The raw tables of TLS: those of the process, of a listener, of one of its chains, and of a
// cluster.

type rawServerTLS struct {
	TicketSecret           *secretFile `toml:"ticket_secret"`
	TicketRotation         *duration   `toml:"ticket_rotation" min:"1m" max:"168h"`
	MaxHandshakes          *int        `toml:"max_handshakes" min:"1" max:"1000000"`
	MaxHandshakesPerSource *int        `toml:"max_handshakes_per_source" min:"0" max:"1000000"`
	HandshakesPerTurn      *int        `toml:"handshakes_per_turn" min:"1" max:"64"`
	HelloBytes             *size       `toml:"hello_bytes" min:"4096" max:"65536"`
	ExpiryWarning          *duration   `toml:"expiry_warning" min:"0s" max:"8760h"`
}

type rawTLS struct {
	Certificates []rawCertificate `toml:"certificates"`
	MinVersion   *tlsVersion      `toml:"min_version"`
	MaxVersion   *tlsVersion      `toml:"max_version"`
	CipherSuites []cipherSuite    `toml:"cipher_suites"`
	Curves       []curve          `toml:"curves"`
	ALPN         []alpnName       `toml:"alpn"`
	OCSPPolicy   *string          `toml:"ocsp_policy" one:"lenient strict must_staple"`
	Client       rawClientCert    `toml:"client_certificate"`
	Tickets      *bool            `toml:"session_tickets"`
}

type rawCertificate struct {
	Cert  *secretFile `toml:"cert"`
	Key   *secretFile `toml:"key"`
	OCSP  *secretFile `toml:"ocsp"`
	Names []altName   `toml:"names"`
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
	Verify       *bool         `toml:"verify"`
	CA           *secretFile   `toml:"ca"`
	SNI          *upstreamSNI  `toml:"sni"`
	SAN          []rawSAN      `toml:"san"`
	SPKI         []pin         `toml:"spki_sha256"`
	Certificate  []pin         `toml:"certificate_sha256"`
	Cert         *secretFile   `toml:"cert"`
	Key          *secretFile   `toml:"key"`
	ALPN         []alpnName    `toml:"alpn"`
	MinVersion   *tlsVersion   `toml:"min_version"`
	MaxVersion   *tlsVersion   `toml:"max_version"`
	CipherSuites []cipherSuite `toml:"cipher_suites"`
	Curves       []curve       `toml:"curves"`
	Sessions     *int          `toml:"sessions" min:"0" max:"1000000"`
	StartTLS     *string       `toml:"starttls" one:"none postgres"`
}
