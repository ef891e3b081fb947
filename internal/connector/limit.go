package connector

// Limits of a manifest.
const (
	MaxManifest = 4 << 20 // bytes of its canonical JSON
	MaxActions  = 5000
	MaxTriggers = 200
	MaxInputs   = 300 // of one action
	MaxHosts    = 50
	MaxBases    = 10 // besides base_url
	MaxFollow   = 10 // hosts of one action to which redirects lead
	MaxFollowed = 50 // actions with such hosts
	MaxSchemas  = 2000
	MaxMethods  = 20 // ways to authenticate
	MaxName     = 63
	MaxText     = 4 << 10 // a title or description
	MaxSchema   = 256 << 10
	MaxPath     = 2048
	MaxDepth    = 64 // nesting of its JSON
)
