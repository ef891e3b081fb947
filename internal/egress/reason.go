package egress

import "strings"

// The texts of transport faults, by which [Reason] knows them.
const (
	textCertificate = "the service's certificate is not valid: "
	textAlert       = "the service refuses the TLS connection: "
	textNoTLS       = "the service does not speak TLS on this port"
	textTrouble     = "connection trouble: "
	textBroken      = "the connection broke or the answer is not HTTP"
	textUnresolved  = " does not resolve"
	textNoLookup    = " could not be looked up"
)

// Reason is what may be said, to people who may not see payloads, of a fault without an answer: in fixed words, texts of the
// operating system, and what is known of our own certificate. Nothing that the other side chose is among them, not even a name in its
// certificate. Empty: the message is of another fault.
func Reason(message string) string {
	switch {
	case strings.HasPrefix(message, textCertificate):
		return "its certificate " + certificateReason(message)
	case strings.HasPrefix(message, textAlert):
		return "it refuses the TLS connection: " + message[len(textAlert):]
	case strings.HasPrefix(message, textNoTLS):
		return "it does not speak TLS on this port"
	case strings.HasPrefix(message, textTrouble):
		return strings.TrimPrefix(message, textTrouble)
	case strings.HasPrefix(message, textBroken):
		return "the connection broke, or the answer is not HTTP" + message[len(textBroken):]
	case strings.HasPrefix(message, "the name ") && strings.Contains(message, textUnresolved):
		return "its name does not resolve"
	case strings.HasPrefix(message, "the name ") && strings.Contains(message, textNoLookup):
		return "its name could not be looked up"
	}
	return ""
}

// certificateReason says in fixed words what crypto/x509 found.
func certificateReason(text string) string {
	for _, r := range []struct{ found, says string }{
		{"unknown authority", "is of no authority that is trusted here"},
		{"expired or is not yet valid", "has expired, or is not valid yet"},
		{"certificate is valid for", "is for another name"},
		{"certificate is not valid for any names", "is for no name"},
		{"cannot validate certificate for", "is for no address such as this"},
		{"legacy Common Name", "names its host in the Common Name only, which nobody reads any more"},
		{"not authorized to sign", "was signed by a certificate that may not sign others"},
		{"incompatible key usage", "is not for servers"},
	} {
		if strings.Contains(text, r.found) {
			return r.says
		}
	}
	return "is not valid"
}
