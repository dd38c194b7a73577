// The version of the Gateway API whose resources the tests install on their cluster. They are files of the module; nothing of it is built.
module github.com/bermhq/berm/test/cluster/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.3
