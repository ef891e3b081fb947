package oauth

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Moment gives now, now_ms, now_iso and now_http of templates.
func Moment(name string, now time.Time) (string, bool) {
	switch name {
	case "now":
		return strconv.FormatInt(now.Unix(), 10), true
	case "now_ms":
		return strconv.FormatInt(now.UnixMilli(), 10), true
	case "now_iso":
		return now.UTC().Format(time.RFC3339), true
	case "now_http":
		return now.UTC().Format(http.TimeFormat), true
	}
	return "", false
}

// Unique makes a value for nonce (32 hexadecimal digits) or uuid (version 4, RFC 9562).
func Unique(name string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	if name != "uuid" {
		return hex.EncodeToString(b[:])
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
