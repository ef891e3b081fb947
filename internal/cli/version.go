package cli

import "runtime/debug"

// described is what the build says of the source, such as v1.2.0-14-g0a1b2c3: the Makefile
// has the linker set it. Nothing else ever does.
var described string

// programVersion is the version of this program, and the revision of its source where the
// build information has it. A build by hand outside of a repository knows neither.
func programVersion() (version, revision string) {
	version = described
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return orUnknown(version), ""
	}
	if version == "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return orUnknown(version), revision
}

func orUnknown(version string) string {
	if version == "" {
		return "(devel)"
	}
	return version
}
