package id

// encodedLen is the number of base32 characters for 128 bits.
const encodedLen = 26

// alphabet is Crockford's base32 in lower case, which sorts like the bytes.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// appendBase32 appends v as 26 characters: 130 bits, of which the first two are zero.
func appendBase32(dst []byte, v [16]byte) []byte {
	for i := range encodedLen {
		var x uint
		for bit := range 5 {
			at := i*5 + bit - 2 // position among the 128 bits
			x <<= 1
			if at >= 0 {
				x |= uint(v[at/8]>>(7-at%8)) & 1
			}
		}
		dst = append(dst, alphabet[x])
	}
	return dst
}

// decodeBase32 is the exact inverse of appendBase32. It reports false for any other text.
func decodeBase32(v *[16]byte, s string) bool {
	for i := range encodedLen {
		x := digit(s[i])
		if x < 0 || i == 0 && x > 7 {
			return false
		}
		for bit := range 5 {
			at := i*5 + bit - 2
			if at >= 0 && x>>(4-bit)&1 == 1 {
				v[at/8] |= 1 << (7 - at%8)
			}
		}
	}
	return true
}

func digit(c byte) int {
	for i := range len(alphabet) {
		if alphabet[i] == c {
			return i
		}
	}
	return -1
}
