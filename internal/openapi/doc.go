// Package openapi makes connectors of API descriptions: Swagger 2.0, OpenAPI 3.0 and 3.1.
//
// Purpose: [Import] reads a document and makes a draft manifest with a typed action per
// operation; what a document does not say comes from a [SideFile], keyed by operationId. [Result]
// says what was made, what was left out and why, which rules of the specification the document
// breaks, and which hosts it names.
//
// Authority: a document is data that somebody gave. It is parsed by a child process without
// network, files or keys and with bounded memory and time ([Reader]); what the child answers is
// checked again, and a manifest made here is of the tier imported: it is trusted by nobody until
// its digest is approved. Nothing in a document is fetched; references stay inside of it.
//
// Reading is lenient: what a document gets wrong is reported as a [Violation] and read as was
// most likely meant, or the operation is left out with a reason. The reading is this package's own,
// over a tree that keeps every extension and the order of the document; the strict judgement is
// kin-openapi's, which shares no code with it.
//
// Functions are pure and safe for concurrent use. Package openapi/contract proves that the
// actions that were made send what the document asks for.
package openapi
