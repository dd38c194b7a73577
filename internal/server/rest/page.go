package rest

import (
	"net/http"
	"strconv"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
)

// Page reads page_size and page_token, in either spelling.
func Page(r *http.Request) (control.Page, error) {
	query, err := Query(r, "page_size", "page_token")
	if err != nil {
		return control.Page{}, err
	}
	if err := NoBody(r); err != nil {
		return control.Page{}, err
	}
	page := control.Page{Token: query["page_token"]}
	text, given := query["page_size"]
	if !given {
		return page, nil
	}
	size, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return page, fault.Invalidf(fault.ReasonFieldInvalid, "invalid query parameters").WithField("page_size", "%.40q is no integer", text)
	}
	page.Size = int(size)
	return page, nil
}
