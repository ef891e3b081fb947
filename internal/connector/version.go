package connector

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Version is a semantic version 2.0.0 without a build part.
type Version struct {
	Major, Minor, Patch int
	Pre                 string // such as beta.1; empty: a release
}

// ErrVersion is wrapped by the errors of versions and ranges that cannot be read.
var ErrVersion = errors.New("expected a version such as 1.2.0")

// ParseVersion reads a version such as 1.2.0 or 1.2.0-beta.1.
func ParseVersion(s string) (Version, error) {
	m := regexp.MustCompile(`^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?$`).FindStringSubmatch(s)
	if m == nil || len(s) > MaxName {
		return Version{}, fmt.Errorf("%w, not %q", ErrVersion, cut(s))
	}
	return Version{digits(m[1]), digits(m[2]), digits(m[3]), m[4]}, nil
}

// digits reads digits that a pattern has bounded.
func digits(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// String is the version as it is written.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Pre != "" {
		s += "-" + v.Pre
	}
	return s
}

// Compare orders versions by precedence (semver.org 2.0.0, section 11).
func (v Version) Compare(w Version) int {
	if c := cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch)); c != 0 {
		return c
	}
	switch {
	case v.Pre == w.Pre:
		return 0
	case v.Pre == "":
		return 1
	case w.Pre == "":
		return -1
	}
	return comparePre(strings.Split(v.Pre, "."), strings.Split(w.Pre, "."))
}

func comparePre(a, b []string) int {
	for i := range min(len(a), len(b)) {
		x, errX := strconv.Atoi(a[i])
		y, errY := strconv.Atoi(b[i])
		c := 0
		switch {
		case errX == nil && errY == nil:
			c = cmp.Compare(x, y)
		case errX == nil:
			c = -1
		case errY == nil:
			c = 1
		default:
			c = cmp.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// Range says which versions of a connector a slot takes: ^1.2 (from 1.2.0, below 2.0.0), ~1.2 (from 1.2.0, below 1.3.0),
// 1 or 1.2 (that and what is more exact), 1.2.0 (that alone). The zero Range takes every release.
type Range struct {
	sign  string
	parts int
	from  Version
}

// ParseRange reads a range; an empty text is every release.
func ParseRange(s string) (Range, error) {
	if s == "" {
		return Range{}, nil
	}
	m := regexp.MustCompile(`^([\^~]?)(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:-([0-9A-Za-z.-]+))?$`).FindStringSubmatch(s)
	if m == nil || len(s) > MaxName || m[5] != "" && m[4] == "" {
		return Range{}, fmt.Errorf("%w, or a range such as ^1 or ~1.2, not %q", ErrVersion, cut(s))
	}
	r := Range{sign: m[1], parts: 1, from: Version{digits(m[2]), digits(m[3]), digits(m[4]), m[5]}}
	if m[3] != "" {
		r.parts++
	}
	if m[4] != "" {
		r.parts++
	}
	return r, nil
}

// Contains says whether the range takes a version. A pre-release is taken only where the range names one of the same version.
func (r Range) Contains(v Version) bool {
	if v.Pre != "" && (r.from.Pre == "" || v.Major != r.from.Major || v.Minor != r.from.Minor || v.Patch != r.from.Patch) {
		return false
	}
	if r.parts == 0 {
		return true
	}
	if v.Compare(r.from) < 0 {
		return false
	}
	switch {
	case r.sign == "^" && r.from.Major > 0, r.parts == 1:
		return v.Major == r.from.Major
	case r.sign == "^" && r.from.Minor > 0, r.sign == "^" && r.parts == 2, r.sign == "~", r.parts == 2:
		return v.Major == r.from.Major && v.Minor == r.from.Minor
	}
	return v.Major == r.from.Major && v.Minor == r.from.Minor && v.Patch == r.from.Patch && (r.sign != "" || v.Pre == r.from.Pre)
}
