//! Opening a file that exists: on the way in, one opener at a time.

use super::check::Shape;
use super::header::{Draft, HEADER, Header};
use super::machine::Machine;
use super::mapping::Mapping;
use super::place::{Place, Status};
use super::registry::Opening;
use super::{Bytes, File, check, presence, registry, space};
use crate::error::Result;
use std::sync::Arc;

/// Opens what is at `place`, where `status` was seen. None if it is not there any more, or something else.
pub fn existing(
    place: &Place,
    status: &Status,
    mode: u32,
    shape: &Shape,
    start: &impl Fn(Bytes) -> Result<()>,
    recover: &impl Fn(Bytes) -> Result<()>,
) -> Result<Option<Arc<File>>> {
    // Before it is opened: to open a device or a pipe can have effects.
    check::status(place.path(), status, mode)?;
    if let Some(file) = registry::find(status.id) {
        return file.expect(shape).map(Some);
    }
    let opened = Opening::new(|| {
        let Some(file) = place.open()? else { return Ok(None) };
        let status = Status::of(&file)?;
        check::status(place.path(), &status, mode)?;
        check::file_system(place.path(), &file)?;
        Ok(Some((file, status)))
    })?;
    let Some((opening, status)) = opened else { return Ok(None) };
    presence::enter_door(&opening)?;
    // Another thread of this process may have been on its way in.
    if let Some(file) = registry::find(status.id) {
        return file.expect(shape).map(Some);
    }
    let Some(status) = place.look()?.filter(|now| now.id == status.id) else { return Ok(None) };
    let mapping = enter(place, &opening, &status, shape, start, recover)?;
    Ok(Some(File::register(place, opening, mapping, status.id, shape)))
}

/// Joins the processes that have the file open, or puts it in order if there are none. The caller is at the door.
///
/// Presence is announced first, and made exclusive then: if that fails, somebody else has had the file in order from
/// before this process announced itself, so that there is no moment at which all who knew its state were dead.
fn enter(
    place: &Place,
    opening: &Opening,
    status: &Status,
    shape: &Shape,
    start: &impl Fn(Bytes) -> Result<()>,
    recover: &impl Fn(Bytes) -> Result<()>,
) -> Result<Mapping> {
    presence::arrive(opening)?;
    let alone = presence::try_alone(opening)?;
    let header = Header::read(place.path(), opening)?;
    header.check(place.path(), status.size, shape, alone)?;
    let machine = Machine::current()?;
    if !alone {
        header.check_company(place.path(), &machine)?;
    }
    space::refill(opening, (HEADER + shape.size) as u64, status.allocated)?;
    let mapping = opening.map(shape.size)?;
    if alone {
        // SAFETY: mapped as long as `opening`.
        let draft = unsafe { Draft::new(mapping.header()) };
        if header.is_current(&machine) {
            draft.adopt(&machine);
            recover(mapping.bytes())?;
        } else {
            draft.begin();
            // SAFETY: as above.
            unsafe { mapping.clear() };
            start(mapping.bytes())?;
            draft.complete(shape, &machine);
        }
        presence::arrive(opening)?;
    }
    Ok(mapping)
}
