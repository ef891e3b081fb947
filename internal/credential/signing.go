package credential

// Algorithm is a signature or hash.
type Algorithm string

// The algorithms. The plain hashes are for schemes that hash a text in which the secret stands.
const (
	HMACSHA1   Algorithm = "hmac-sha1"
	HMACSHA256 Algorithm = "hmac-sha256"
	HMACSHA512 Algorithm = "hmac-sha512"
	SHA1       Algorithm = "sha1"
	SHA256     Algorithm = "sha256"
	SHA512     Algorithm = "sha512"
	// PlainText is the method PLAINTEXT of OAuth 1.0 (RFC 5849 section 3.4.4).
	PlainText Algorithm = "plaintext"
	RS256     Algorithm = "RS256"
	ES256     Algorithm = "ES256"
	EdDSA     Algorithm = "EdDSA"
	HS256     Algorithm = "HS256"
)

// Encoding is how bytes are written.
type Encoding string

// The encodings.
const (
	Hex       Encoding = "hex"
	UpperHex  Encoding = "HEX"
	Base64    Encoding = "base64"
	Base64URL Encoding = "base64url"
	// Text is the bytes as they are; for keys only.
	Text Encoding = "text"
)

// Signing says how a request is signed (40). The signature is called {signature} in the places.
type Signing struct {
	// Algorithm is HMACSHA256 unless set.
	Algorithm Algorithm `json:"algorithm,omitempty"`
	// Key is the template of the HMAC's key; "{secret}" unless set. KeyEncoding says how its text becomes bytes.
	Key         string   `json:"key,omitempty"`
	KeyEncoding Encoding `json:"key_encoding,omitempty"`
	// Message is the template of what is signed, over fields, variables and method, host, path, query (as sent), url, body,
	// body_hash, content_type, now, now_ms, now_iso, now_http, nonce, uuid, and query.NAME or param.NAME for single
	// parameters. The line end is "\n". params are all parameters sorted, name=value joined by "&".
	Message string `json:"message,omitempty"`
	// Encoding is how {signature} is written; Hex unless set.
	Encoding Encoding `json:"encoding,omitempty"`
	// BodyHash is the hash called {body_hash}, written in BodyEncoding; SHA256 and Hex unless set.
	BodyHash     Algorithm `json:"body_hash,omitempty"`
	BodyEncoding Encoding  `json:"body_encoding,omitempty"`
	// Region and Service are those of AWS; the region is us-east-1 unless set.
	Region  string `json:"region,omitempty"`
	Service string `json:"service,omitempty"`
	// Realm is that of OAuth 1.0.
	Realm string `json:"realm,omitempty"`
}

// Assertion is a signed JWT that is made for a request, where it is called {assertion}: that of the JWT bearer grant, of a
// client that proves itself (16), or of a service account (29). RFC 7523.
type Assertion struct {
	// Algorithm is RS256 unless set; HS256 takes the client secret.
	Algorithm Algorithm `json:"algorithm,omitempty"`
	// Key is the template of the private key (PEM) or secret; "{private_key}", with HS256 "{client_secret}".
	Key string `json:"key,omitempty"`
	// KeyID is the template of the header kid; it is left out when empty.
	KeyID string `json:"key_id,omitempty"`
	// Issuer, Subject and Audience are templates; "{client_id}", "{client_id}" and the token URL unless set.
	Issuer   string `json:"issuer,omitempty"`
	Subject  string `json:"subject,omitempty"`
	Audience string `json:"audience,omitempty"`
	// Claims are more claims, templates each.
	Claims map[string]string `json:"claims,omitzero"`
	// Lifetime is from iat to exp; 300 s unless set, at most an hour.
	Lifetime Seconds `json:"lifetime_s,omitempty"`
}
