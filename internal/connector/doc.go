// Package connector is the model of connectors: what can be connected, as data.
//
// A [Manifest] describes one version of a connector: its hosts, its ways to
// authenticate, its actions and its triggers. It holds no expressions and no code:
// an [Action] says where each typed input goes in a request, and everything else is
// fixed. Manifests are immutable; the SHA-256 of the canonical JSON names one.
// A published integration carries a [Lock] for each of its connection slots: the
// part of the manifest that its flows use, so that what runs is what was tested.
//
// Authority: a manifest is a description and grants nothing. Where a credential may
// be sent is decided by the binding in the credential's sealed record, which was made
// from the manifest's hosts when the secret was entered.
//
// Values are plain data. Functions are pure and safe for concurrent use. Package
// connectorfile reads and writes manifests as files.
package connector
