package connector

import "testing"

func TestRanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		versions, version string
		want              bool
	}{
		{"", "0.1.0", true},
		{"", "1.0.0-beta.1", false},
		{"^1", "1.9.3", true},
		{"^1", "2.0.0", false},
		{"^1.2", "1.1.9", false},
		{"^1.2", "1.2.0", true},
		{"^0.2", "0.2.7", true},
		{"^0.2", "0.3.0", false},
		{"^0.0.3", "0.0.3", true},
		{"^0.0.3", "0.0.4", false},
		{"^0", "0.9.0", true},
		{"~1.2", "1.2.9", true},
		{"~1.2", "1.3.0", false},
		{"~1", "1.7.0", true},
		{"1", "1.7.0", true},
		{"1.2", "1.2.4", true},
		{"1.2", "1.3.0", false},
		{"1.2.3", "1.2.3", true},
		{"1.2.3", "1.2.4", false},
		{"1.2.3", "1.2.3-rc.1", false},
		{"1.2.3-rc.1", "1.2.3-rc.1", true},
		{"1.2.3-rc.1", "1.2.3-rc.2", false},
		{"^1.2.3-rc.1", "1.2.3-rc.2", true},
		{"^1.2.3-rc.1", "1.4.0", true},
	} {
		r, err := ParseRange(tt.versions)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseVersion(tt.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Contains(v); got != tt.want {
			t.Errorf("%q contains %s: %t, want %t", tt.versions, tt.version, got, tt.want)
		}
	}
	for _, bad := range []string{"x", "^", "1.2.3.4", ">=1", "1.2-rc", "^1 || ^2"} {
		if _, err := ParseRange(bad); err == nil {
			t.Errorf("the range %q was read", bad)
		}
	}
	for _, bad := range []string{"", "1", "1.2", "01.2.3", "1.2.3+build", "1.2.3-", "v1.2.3"} {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("the version %q was read", bad)
		}
	}
	sorted := []string{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "2.0.0"}
	for i := 1; i < len(sorted); i++ {
		a, errA := ParseVersion(sorted[i-1])
		b, errB := ParseVersion(sorted[i])
		if errA != nil || errB != nil || a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
			t.Errorf("%s is not before %s", sorted[i-1], sorted[i])
		}
	}
}
