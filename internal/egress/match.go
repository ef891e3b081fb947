package egress

import "bytes"

// matcher finds any of a set of byte strings in one pass: Wu and Manber, "A Fast
// Algorithm for Multi-Pattern Searching" (1994), with blocks of two bytes. All
// patterns have at least MinScrub bytes, so most positions are skipped.
type matcher struct {
	patterns []pattern
	shortest int
	longest  int
	shift    [shiftSize]uint8
}

const shiftSize = 1 << 12

// pattern is one fixed form. The flags say that the character before or after a
// match carries some bits of the secret too (base64).
type pattern struct {
	form        []byte
	left, right bool
}

// span is a half-open range of a text.
type span struct{ start, end int }

func blockHash(a, b byte) uint { return (uint(a)<<4 ^ uint(b)) & (shiftSize - 1) }

func newMatcher(patterns []pattern) *matcher {
	m := &matcher{patterns: patterns}
	for i, p := range patterns {
		if i == 0 || len(p.form) < m.shortest {
			m.shortest = len(p.form)
		}
		m.longest = max(m.longest, len(p.form))
	}
	window := min(m.shortest, 1<<8-1)
	m.shortest = window
	for i := range m.shift {
		m.shift[i] = uint8(max(window-1, 0))
	}
	for _, p := range patterns {
		for i := 1; i < window; i++ {
			h := blockHash(p.form[i-1], p.form[i])
			m.shift[h] = min(m.shift[h], uint8(window-1-i))
		}
	}
	return m
}

// find appends every match in text to spans: all of them, also overlapping ones, ordered by start.
func (m *matcher) find(text []byte, spans []span) []span {
	if len(m.patterns) == 0 {
		return spans
	}
	for end := m.shortest - 1; end < len(text); {
		skip := int(m.shift[blockHash(text[end-1], text[end])])
		if skip > 0 {
			end += skip
			continue
		}
		start := end - m.shortest + 1
		for i := range m.patterns {
			if p := &m.patterns[i]; bytes.HasPrefix(text[start:], p.form) {
				spans = append(spans, p.widen(text, start))
			}
		}
		end++
	}
	return spans
}

// widen takes in the neighbours that carry bits of the secret.
func (p *pattern) widen(text []byte, start int) span {
	s := span{start, start + len(p.form)}
	if p.left && s.start > 0 && base64Byte(text[s.start-1]) {
		s.start--
	}
	if p.right && s.end < len(text) && base64Byte(text[s.end]) {
		s.end++
	}
	return s
}

func base64Byte(c byte) bool {
	return alphanumeric(c) || c == '+' || c == '/' || c == '-' || c == '_'
}
