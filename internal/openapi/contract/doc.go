// Package contract proves that the actions of an imported connector send what its document asks for.
//
// Purpose: [Run] calls every action with values made from the manifest's schemas, once with all inputs and once with the
// required ones only. The request is built by the product's own builder (connector.Build), and the credential is placed by
// the product's own egress client, which speaks HTTP to a mock server over a connection in memory. The mock server judges
// what arrives by the document: method, path and server by its own reading, parameters and body by kin-openapi, which shares
// no code with the importer; nothing undeclared may be sent, every value that was given must arrive, and the credential must
// stand in the declared place and nowhere else. Its answers are made from the manifest's output schema and are judged by the
// document's.
//
// Authority: none. It is a test machine: it dials nothing and holds planted credentials only.
//
// A [Machine] is for one goroutine. What an operation fails on is a [Failure], never an error.
package contract
