package port

import "net/http"

// HTTPServer shows tests the settings.
func HTTPServer(p *Port) *http.Server { return p.http }
